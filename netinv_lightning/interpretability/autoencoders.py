"""Sparse autoencoders over a classifier's features: k-sparse ones over vectors, convolutional ones over maps (A4-4).

Both centre what they are given by the mean of the training features and divide it by ONE number, the root mean variance over
features: a feature that hardly varies in training stays small elsewhere, and the training loss is at once a figure that can be
read, the fraction of variance unexplained (1 = predicting the mean).

Shape suffixes: n samples, B batch, D features, M hidden units, C channels, h height, w width, K kernel side.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netinv_lightning.errors import InputError

EPOCHS = 50
BATCH = 200
LR = 5e-3
REGION = 2
"""Side of a pooling region of `ConvSparse`, in positions."""
KERNEL = 3
TINY = 1e-12


class SparseAutoencoder(nn.Module, ABC):
    """What both kinds share: the scale of the data, a linear decoder with columns of unit norm, tied at the start only.

    An activation is at least 0, and exactly 0 where a unit is not active. Columns of one length make the activations of
    different units comparable, and keep the decoder from growing while activations shrink.
    """

    mean: Tensor
    scale: Tensor
    decoder: nn.Parameter

    def forward(self, x: Tensor) -> Tensor:
        """The reconstruction, in the units of the input and of its shape."""
        return self.decode(self.encode(x))

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """The sparse code of a batch."""

    @abstractmethod
    def decode(self, a: Tensor) -> Tensor:
        """The inputs that codes stand for."""

    @abstractmethod
    def unit_activations(self, a: Tensor) -> Tensor:
        """One activation a unit, [B, M], of codes."""

    @torch.no_grad()
    def standardise_by(self, x: Tensor) -> None:
        """Takes mean and scale from training features."""
        over = [dim for dim in range(x.ndim) if dim != 1]
        self.mean.copy_(x.mean(dim=over).view_as(self.mean))
        self.scale.copy_((x - self.mean).square().mean().sqrt().clamp(min=TINY))

    @torch.no_grad()
    def normalise_decoder(self) -> None:
        """Brings every unit's column of the decoder back to norm 1."""
        flat = self.decoder.flatten(1)
        self.decoder.div_(flat.norm(dim=1).clamp(min=TINY).view(-1, *[1] * (self.decoder.ndim - 1)))


class KSparse(SparseAutoencoder):
    """k-sparse autoencoder (Makhzani and Frey 2014, arXiv 1312.5663) over feature vectors [B, D].

    Of M hidden units the k with the largest pre-activations are kept. It differs from the paper in four points. A kept
    unit goes through a ReLU, so that firing has one sign; fewer than k fire where fewer are positive. Encoder and decoder
    are tied at the start, not throughout. The paper keeps alpha k units when it encodes for another task, alpha about 2 or 3;
    here alpha is 1, so that the activations studied are those that were trained, and L0 is what was asked for. The paper lets
    k shrink slowly against dead units; here k is constant and none are revived: of 512 units with k = 16, trained on the
    penultimate features of 4,000 training images of mnist_cnn, 5 % never fire for 5,000 test images (a slower rate has none dead
    and leaves more unexplained). `activations.py` tells how many.

    Args:
        features: D.
        units: M, at least 1.
        active: k, from 1 to M.
        seed: Of the initial weights.

    Raises:
        InputError: if `interpret.sparse_units` or `interpret.sparse_active` is out of range.
    """

    def __init__(self, features: int, units: int, active: int, seed: int) -> None:
        super().__init__()
        _check_units(units)
        if not 1 <= active <= units:
            raise InputError(
                f"interpret.sparse_active={active}: must be from 1 to interpret.sparse_units={units}; units active a sample"
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
        """Activations [B, M], at most k of a row above 0, all others exactly 0."""
        pre_BM = F.linear((f_BD - self.mean) / self.scale, self.encoder, self.bias_M)
        kept_Bk, unit_Bk = pre_BM.topk(self.active, dim=1, sorted=False)
        return torch.zeros_like(pre_BM).scatter(1, unit_Bk, kept_Bk.relu())

    def decode(self, a_BM: Tensor) -> Tensor:
        """Features [B, D] that activations stand for."""
        return (a_BM @ self.decoder + self.bias_D) * self.scale + self.mean

    def unit_activations(self, a_BM: Tensor) -> Tensor:
        """The code itself, [B, M]."""
        return a_BM


class ConvSparse(SparseAutoencoder):
    """Convolutional sparse autoencoder over a layer's maps [B, C, h, w], after Luo, Li, Yang, Xu and Zhang (2018, IEEE TNNLS 29(7)).

    Their idea, as the abstract tells it, is that max-pooling sparsifies the maps: within each pooling region of each of the M
    hidden maps only the largest activation stays, in its place, and all others are 0, so that plain gradient descent does. That
    is built: a 3 x 3 convolution, regions of 2 x 2 (smaller at the far edge of maps of odd side), a ReLU, a linear 3 x 3
    convolution back, whose filters have norm 1. The abstract's "competition over feature channels" is not built, so the code is
    less sparse than theirs: at most one activation a region and map, and nothing holds maps back from being active at
    once. They train on images; here it is a classifier's maps. Maps of 2 x 2 and more can be studied. Expect less of it than of
    `KSparse`: on the last maps of mnist_cnn, 128 of 3 x 3, with 64 hidden maps and 30 epochs over 2,000 training images, 241 of
    576 entries of a code are active, and it leaves 0.15 of the variance of test images unexplained where 241 principal
    components leave 0.09.

    Args:
        channels: C.
        units: M, hidden maps, at least 1.
        seed: Of the initial weights.

    Raises:
        InputError: if `interpret.sparse_units` is below 1.
    """

    def __init__(self, channels: int, units: int, seed: int) -> None:
        super().__init__()
        _check_units(units)
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("scale", torch.ones(()))
        # Laid out [M, C, K, K] for both ways: conv2d reads it as the encoder's filters, conv_transpose2d as the decoder's.
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
        """Activations [B, M, h, w], at most one a region and map above 0, all others exactly 0."""
        pre_BMhw = F.conv2d(
            (x_BChw - self.mean) / self.scale, self.encoder, self.bias_M, padding=KERNEL // 2
        )
        return keep_largest(pre_BMhw).relu()

    def decode(self, a_BMhw: Tensor) -> Tensor:
        """Maps [B, C, h, w] that activations stand for."""
        return (
            F.conv_transpose2d(a_BMhw, self.decoder, padding=KERNEL // 2) + self.bias_C11
        ) * self.scale + self.mean

    def unit_activations(self, a_BMhw: Tensor) -> Tensor:
        """Each map's largest activation, wherever it lies, [B, M]."""
        return a_BMhw.amax(dim=(2, 3))


def keep_largest(a_BMhw: Tensor) -> Tensor:
    """Max-pooling unpooled in place: in each region of each map the largest value stays, the others become 0; of equal ones the first."""
    largest, place = F.max_pool2d(a_BMhw, REGION, ceil_mode=True, return_indices=True)
    flat = torch.zeros_like(a_BMhw).flatten(2)
    return flat.scatter(2, place.flatten(2), largest.flatten(2)).view_as(a_BMhw)


def train_autoencoder(
    model: SparseAutoencoder, x: Tensor, seed: int, epochs: int = EPOCHS
) -> list[float]:
    """Trains a model to reconstruct features; the weights after the last step stay in it.

    Adam on the mean squared error in standardised units, batches of 200 (of small sets, a tenth) in a new random order each
    epoch, the learning rate falling in a straight line to 0; after each step the decoder's columns are normalised. The same
    model, data and seed give the same bits on one machine; the global random stream is not touched.

    Args:
        model: An untrained autoencoder; its mean and scale are taken from `x`.
        x: Training features, [n, D] or [n, C, h, w].
        seed: Of the batches' order.
        epochs: Passes over the data.

    Returns:
        The mean loss of each epoch's batches, a fraction of the variance.
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
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            model.normalise_decoder()
            total += loss.detach() * len(chosen_B)
        curve.append(float(total) / len(x))
    return curve


def _check_units(units: int) -> None:
    if units < 1:
        raise InputError(
            f"interpret.sparse_units={units}: must be 1 or more; hidden units of a sparse autoencoder"
        )
