"""Sparse autoencoders over a classifier's features: k-sparse for vectors, convolutional for maps.

Both subtract the mean of the training features and divide all features by the same number, the root
of their mean variance. A feature that hardly varies in training therefore stays small in other
data, and the training loss is the fraction of variance unexplained (1 = predicting the mean).

Suhail, Tang and Sethi (2024, arXiv 2411.17777, section 5.1) study classifiers with such
autoencoders.

Shape suffixes: n samples, B batch, D features, M hidden units, C channels, h height, w width, K
kernel size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netinv_lightning.errors import InputError
from netinv_lightning.training.gradient_steps import descend

EPOCHS = 50
BATCH = 200
LR = 5e-3
REGION = 2
"""Side of a pooling region of `ConvSparse`, in positions."""
KERNEL = 3
TINY = 1e-12


class SparseAutoencoder(nn.Module, ABC):
    """Base class: standardisation, and a linear decoder with columns of unit norm.

    Encoder and decoder start with the same weights and are not tied afterwards. An activation is at
    least 0, and exactly 0 if the unit is not active. Columns of unit norm make the activations of
    different units comparable and keep the decoder from growing while activations shrink.
    """

    mean: Tensor
    scale: Tensor
    decoder: nn.Parameter

    def forward(self, x: Tensor) -> Tensor:
        """Return the reconstruction, in the units and the shape of the input."""
        return self.decode(self.encode(x))

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Return the sparse code of a batch."""

    @abstractmethod
    def decode(self, a: Tensor) -> Tensor:
        """Return the inputs that codes represent."""

    @abstractmethod
    def unit_activations(self, a: Tensor) -> Tensor:
        """Return one activation per unit, [B, M], from codes."""

    @torch.no_grad()
    def standardise_by(self, x: Tensor) -> None:
        """Set mean and scale from training features."""
        over = [dim for dim in range(x.ndim) if dim != 1]
        self.mean.copy_(x.mean(dim=over).view_as(self.mean))
        self.scale.copy_((x - self.mean).square().mean().sqrt().clamp(min=TINY))

    @torch.no_grad()
    def normalise_decoder(self) -> None:
        """Scale the decoder column of each unit to norm 1."""
        flat = self.decoder.flatten(1)
        self.decoder.div_(flat.norm(dim=1).clamp(min=TINY).view(-1, *[1] * (self.decoder.ndim - 1)))


class KSparse(SparseAutoencoder):
    """k-sparse autoencoder (Makhzani and Frey 2014, arXiv 1312.5663) over feature vectors [B, D].

    Of M hidden units, the k with the largest pre-activations are kept. Differences from the paper:

    - A ReLU follows, so activations have one sign. Fewer than k units are active if fewer than k
      pre-activations are positive.
    - Encoder and decoder are tied at initialisation only.
    - To compute features for another task, the paper keeps alpha k units, with alpha about 2 or 3.
      Here alpha is 1. The studied activations are therefore those of training, and L0 is at most k.
    - The paper decreases k slowly to avoid dead units. Here k is constant and dead units are not
      revived. With 512 units and k = 16, trained on the penultimate features of 4,000 training
      images of mnist_cnn, 5 % of the units are active for none of 5,000 test images. With a lower
      learning rate, no unit is dead, but more variance is unexplained. `activations.py` measures
      the share of dead units.

    Args:
        features: D.
        units: M, at least 1.
        active: k, from 1 to M.
        seed: Seed of the initial weights.

    Raises:
        InputError: if `interpret.sparse_units` or `interpret.sparse_active` is out of range.
    """

    def __init__(self, features: int, units: int, active: int, seed: int) -> None:
        super().__init__()
        _check_units(units)
        if not 1 <= active <= units:
            raise InputError(
                f"interpret.sparse_active={active}: must be from 1 to "
                f"interpret.sparse_units={units}. It is the number of active units per sample"
            )
        self.active = active
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(()))
        self.decoder = nn.Parameter(
            torch.randn(units, features, generator=torch.Generator().manual_seed(seed))
        )
        self.normalise_decoder()
        self.encoder = nn.Parameter(self.decoder.detach().clone())
        self.bias_M = nn.Parameter(torch.zeros(units))
        self.bias_D = nn.Parameter(torch.zeros(features))

    def encode(self, f_BD: Tensor) -> Tensor:
        """Return activations [B, M]: at most k per row are above 0, all others are exactly 0."""
        pre_BM = F.linear((f_BD - self.mean) / self.scale, self.encoder, self.bias_M)
        top_Bk, unit_Bk = pre_BM.topk(self.active, dim=1, sorted=False)
        return torch.zeros_like(pre_BM).scatter(1, unit_Bk, top_Bk.relu())

    def decode(self, a_BM: Tensor) -> Tensor:
        """Return the features [B, D] that activations represent."""
        return (a_BM @ self.decoder + self.bias_D) * self.scale + self.mean

    def unit_activations(self, a_BM: Tensor) -> Tensor:
        """Return the code itself, [B, M]."""
        return a_BM


class ConvSparse(SparseAutoencoder):
    """Convolutional sparse autoencoder over the maps [B, C, h, w] of a layer.

    It follows Luo, Li, Yang, Xu and Zhang (2018, IEEE TNNLS 29(7)). According to their abstract,
    max-pooling sparsifies the maps: within each pooling region of each hidden map only the largest
    activation stays, in its place, and all others are set to 0. In addition, feature channels
    compete: in each region only the `active` maps with the largest activations stay. The model is
    then trained by plain gradient descent. This class consists of a 3 x 3 convolution, pooling
    regions of 2 x 2 (smaller at the far edge if a side is odd), a ReLU, and a linear 3 x 3
    convolution back, whose filters have norm 1.

    Differences from the paper:

    - Only the abstract was available, which does not define the competition. Here the k largest
      win, as in `KSparse`.
    - The paper trains on images; here the inputs are maps of a classifier, 2 x 2 or larger.

    Without competition it reconstructs less well than `KSparse`. On the last maps of mnist_cnn (128
    of 3 x 3), with 64 hidden maps and 30 epochs over 2,000 training images, 241 of 576 entries of a
    code are active, and 0.15 of the variance of test images is unexplained; 241 principal
    components leave 0.09.

    Args:
        channels: C.
        units: M, hidden maps, at least 1.
        seed: Seed of the initial weights.
        active: Hidden maps that may be active in a pooling region; None for all of them.

    Raises:
        InputError: if `interpret.sparse_units` is below 1.
    """

    def __init__(self, channels: int, units: int, seed: int, active: int | None = None) -> None:
        super().__init__()
        _check_units(units)
        self.active = None if active is None else min(active, units)
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("scale", torch.ones(()))
        # [M, C, K, K] is the layout of conv2d for the encoder and conv_transpose2d for the decoder.
        self.decoder = nn.Parameter(
            torch.randn(
                units, channels, KERNEL, KERNEL, generator=torch.Generator().manual_seed(seed)
            )
        )
        self.normalise_decoder()
        self.encoder = nn.Parameter(self.decoder.detach().clone())
        self.bias_M = nn.Parameter(torch.zeros(units))
        self.bias_C11 = nn.Parameter(torch.zeros(channels, 1, 1))

    def encode(self, x_BChw: Tensor) -> Tensor:
        """Return activations [B, M, h, w]: at most one per region and map above 0, all others 0."""
        pre_BMhw = F.conv2d(
            (x_BChw - self.mean) / self.scale, self.encoder, self.bias_M, padding=KERNEL // 2
        )
        return keep_largest(pre_BMhw, self.active).relu()

    def decode(self, a_BMhw: Tensor) -> Tensor:
        """Return the maps [B, C, h, w] that activations represent."""
        return (
            F.conv_transpose2d(a_BMhw, self.decoder, padding=KERNEL // 2) + self.bias_C11
        ) * self.scale + self.mean

    def unit_activations(self, a_BMhw: Tensor) -> Tensor:
        """Return the largest activation of each map, [B, M]."""
        return a_BMhw.amax(dim=(2, 3))


def keep_largest(a_BMhw: Tensor, active: int | None = None) -> Tensor:
    """Keep the largest value in each region of each map, in its place, and set the others to 0.

    This is max-pooling followed by unpooling. Of equal values the first is kept.

    Args:
        a_BMhw: Maps.
        active: Keep the values of this many maps per region, those with the largest ones; None to
            keep the values of all maps.
    """
    largest, place = F.max_pool2d(a_BMhw, REGION, ceil_mode=True, return_indices=True)
    if active is not None:
        winners = largest.topk(active, dim=1).indices
        largest = torch.zeros_like(largest).scatter(1, winners, largest.gather(1, winners))
    flat = torch.zeros_like(a_BMhw).flatten(2)
    return flat.scatter(2, place.flatten(2), largest.flatten(2)).view_as(a_BMhw)


def train_autoencoder(
    model: SparseAutoencoder, x: Tensor, seed: int, epochs: int = EPOCHS
) -> list[float]:
    """Train a model to reconstruct features; the weights of the last step are kept.

    Adam minimises the mean squared error in standardised units. Batches have 200 samples, or a
    tenth of all samples if there are fewer than 2,000, in a new random order each epoch. The
    learning rate decreases linearly to 0. After each step the columns of the decoder are
    normalised. On one machine, the same model, data and seed give bit-identical results. The global
    random stream is not used.

    Args:
        model: An untrained autoencoder; its mean and scale are set from `x`.
        x: Training features, [n, D] or [n, C, h, w].
        seed: Seed of the order of the batches.
        epochs: Passes over the data.

    Returns:
        The mean loss of the batches of each epoch, a fraction of the variance.
    """
    source = torch.Generator().manual_seed(seed)
    model.standardise_by(x)
    batch = max(1, min(BATCH, len(x) // 10))
    steps = epochs * -(-len(x) // batch)
    optimizer = torch.optim.Adam(model.parameters(), LR, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    curve = []
    for _ in range(epochs):
        total = torch.zeros(())
        for chosen_B in torch.randperm(len(x), generator=source).split(batch):
            x_B = x[chosen_B]
            loss = ((model(x_B) - x_B) / model.scale).square().mean()
            descend(loss, optimizer, schedule)
            model.normalise_decoder()
            total += loss.detach() * len(chosen_B)
        curve.append(float(total) / len(x))
    return curve


def _check_units(units: int) -> None:
    if units < 1:
        raise InputError(
            f"interpret.sparse_units={units}: must be 1 or more. "
            "It is the number of hidden units of a sparse autoencoder"
        )
