"""`method=min`: model inversion networks (Kumar and Levine 2020, arXiv 1912.13464, NeurIPS).

    auxiliary image x -> classifier -> class c, score y = p_c
    z ~ N(0, 1), c, y -> generator -> image -> discriminator, with c and y -> loss -> generator
    drawing: candidates of z and y for the requested c -> images -> classifier -> the best one

The generator is an inverse map from a score, and noise z, to inputs with this score. It is trained
as a conditional GAN on auxiliary images, so its images stay near the data. High scores are rare in
the data, so images are drawn with the paper's weights: a bin of scores with the share n of the data
is drawn in proportion to

    n / (n + lambda) exp((y - y_best) / tau)

which favours high scores, except bins with hardly any data. Drawing searches y and z (the paper's
approximate inference) for the highest y that the image reaches.

Differences from the paper:

- Its score is an unknown function, of which only data are known, and a learned forward model judges
  the candidates. Here the score is the classifier's probability of a class, and the classifier
  judges them: candidates are queries.
- The class is a context of the score, as in the paper's contextual problems.
- Generator and discriminator are trained in the same step with the least-squares loss (Mao et al.
  2017, arXiv 1611.04076).

Shape suffixes: n auxiliary images, B batch, K candidates per image, N classes, Z entries of z, V
entries of a vector, Q bins, C channels, H height, W width, D features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.config.rules import BATCH, NOT_NEGATIVE, POSITIVE, STEPS, WIDTH, Count
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.cost import CostMeter
from netinv_lightning.inversion.methods.auxiliary import AuxiliaryInversion
from netinv_lightning.inversion.methods.vector_decoder import VectorDecoder
from netinv_lightning.training.distributed import Stream
from netinv_lightning.training.seeds import own_randomness

BINS = 20
"""Bins of the scores, Q."""
DISPERSION = 1e-3
"""lambda, as a share of the data."""


class ModelInversionNetworks(AuxiliaryInversion):
    """Generates images of a class and a score, with a generator trained on auxiliary images.

    Args:
        conditioning: Draws the conditions, of which only the labels are used.
        classifier: The network to invert; only its scores are used.
        auxiliary: Returns the auxiliary images, uint8 [n, C, H, W].
        seed: Seed of the networks and of their batches.
        log_every: Steps between two reports.
        steps: Training steps.
        batch_size: Images per step.
        lr: Learning rate of Adam.
        width: Channels of the first layers of the generator.
        latent_dim: Entries of z.
        temperature: tau, in units of a probability.
        candidates: Candidates of z and y for each drawn image.
        agreement: Weight of the difference between the requested score and that of the image.
    """

    betas = (0.5, 0.999)

    def __init__(
        self,
        conditioning: Conditioning,
        classifier: FrozenClassifier,
        auxiliary: Callable[[], Tensor],
        seed: int,
        log_every: int,
        *,
        steps: Annotated[int, STEPS] = 600,
        batch_size: Annotated[int, BATCH] = 64,
        lr: Annotated[float, POSITIVE] = 1e-3,
        width: Annotated[int, WIDTH] = 24,
        latent_dim: Annotated[int, Count(1, 16_384)] = 32,
        temperature: Annotated[float, POSITIVE] = 0.3,
        candidates: Annotated[int, Count(1, 100_000)] = 8,
        agreement: Annotated[float, NOT_NEGATIVE] = 1.0,
    ) -> None:
        super().__init__(
            conditioning, classifier, auxiliary,
            seed=seed, steps=steps, batch_size=batch_size, lr=lr, log_every=log_every,
        )  # fmt: skip
        if classifier.multi_label:
            raise InputError(
                "method=min: needs one label per image, but this network is multi-label; choose "
                "method=background"
            )
        spec, N = classifier.spec, classifier.spec.num_classes
        self.latent_dim, self.temperature = latent_dim, temperature
        self.candidates, self.agreement = candidates, agreement
        self.networks = nn.ModuleDict(
            {
                "generator": VectorDecoder(spec, latent_dim + N + 1, width, seed),
                "discriminator": Discriminator(spec.channels, N + 1, width, seed + 1),
            }
        )

    def prepare(self) -> None:
        """Query the classifier with the auxiliary images, and weight them by their scores."""
        super().prepare()
        p_nN = self.logits_nN.softmax(dim=1)
        self.score_n, self.label_n = p_nN.max(dim=1)
        weight_n = score_weights(self.score_n, self.temperature)
        # Each class gets the same weight, because each is requested equally often.
        total_N = torch.zeros_like(p_nN[0]).index_add(0, self.label_n, weight_n)
        self.cumulated_n = (weight_n / total_N[self.label_n]).double().cumsum(dim=0)

    def score(self, step: int, stream: Stream) -> tuple[Tensor, Tensor]:
        index_B = self._weighted(stream)
        x_BCHW = self.auxiliary_images(index_B)
        label_B, y_B = self.label_n[index_B], self.score_n[index_B]
        z_BZ = stream.normal(self.batch_size, self.latent_dim)
        context_BV = self._context(label_B, y_B)
        made_BCHW = self.networks["generator"](torch.cat([z_BZ, context_BV], dim=1))
        critic = self.networks["discriminator"]
        real_B, fake_B = critic(x_BCHW, context_BV), critic(made_BCHW.detach(), context_BV)
        fixed = {name: weight.detach() for name, weight in critic.named_parameters()}
        judged_B = functional_call(critic, fixed, (made_BCHW, context_BV))
        of_critic = (real_B - 1).square().mean() + fake_B.square().mean()
        loss = of_critic / 2 + (judged_B - 1).square().mean()
        return loss, torch.stack([loss.detach(), self.accuracy(made_BCHW, label_B)])

    def _weighted(self, stream: Stream) -> Tensor:
        """Draw auxiliary images in proportion to their weights, [B]."""
        draw_B = stream.uniform(self.batch_size).double() * self.cumulated_n[-1]
        return torch.searchsorted(self.cumulated_n, draw_B).clamp_max(len(self.cumulated_n) - 1)

    def _context(self, label_B: Tensor, y_B: Tensor) -> Tensor:
        hot_BN = F.one_hot(label_B, self.classifier.spec.num_classes).float()
        return torch.cat([hot_BN, y_B[:, None].float()], dim=1)

    @torch.no_grad()
    def draw(self, condition: Condition, g: int = 0) -> Tensor:
        """Draw the best of the candidates: max y - agreement |y - p_c(x)|, over y and z."""
        stream = Stream(int(torch.randint(2**62, ())), self.device)
        meter = CostMeter(self.classifier.forward_count)
        best_B: Tensor | None = None
        images_BCHW = torch.empty(0)
        for _ in range(self.candidates):
            x_BCHW, value_B = self._candidate(condition.label_B, stream)
            if best_B is None:
                images_BCHW, best_B = x_BCHW, value_B
                continue
            better_B = value_B > best_B
            images_BCHW = torch.where(_like(better_B, x_BCHW), x_BCHW, images_BCHW)
            best_B = torch.where(better_B, value_B, best_B)
        self.seconds += meter.seconds
        self.forwards += meter.forwards
        return images_BCHW

    def _candidate(self, label_B: Tensor, stream: Stream) -> tuple[Tensor, Tensor]:
        """Return an image and its value for each label; y is uniform from 1/2 to 1."""
        B = len(label_B)
        z_BZ, y_B = stream.normal(B, self.latent_dim), 0.5 + 0.5 * stream.uniform(B)
        context_BV = self._context(label_B, y_B)
        x_BCHW: Tensor = self.networks["generator"](torch.cat([z_BZ, context_BV], dim=1))
        p_BN = self.classifier(x_BCHW).float().softmax(dim=1)
        reached_B = p_BN.gather(1, label_B[:, None])[:, 0]
        return x_BCHW, y_B - self.agreement * (y_B - reached_B).abs()


class Discriminator(nn.Module):
    """Judges images with their class and score, by strided convolutions.

    Args:
        channels: C.
        entries: V, entries of the vector of class and score.
        width: Channels of the last convolution; the first one has half as many.
        seed: Seed of the first weights.
    """

    def __init__(self, channels: int, entries: int, width: int, seed: int) -> None:
        super().__init__()
        half = max(1, width // 2)
        with own_randomness(seed, torch.device("cpu")):
            self.layers = nn.Sequential(
                nn.Conv2d(channels, half, 3, stride=2, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(half, width, 3, stride=2, padding=1),
                nn.LeakyReLU(0.2),
                nn.AdaptiveAvgPool2d(4),
                nn.Flatten(),
            )
            self.head = nn.Linear(16 * width, width)
            self.context = nn.Linear(entries, width)

    def forward(self, x_BCHW: Tensor, context_BV: Tensor) -> Tensor:
        """Return judgements [B]: 1 for real, 0 for generated."""
        x_BCHW = x_BCHW.reshape(*x_BCHW.shape, *[1] * (4 - x_BCHW.dim()))
        f_BD = F.leaky_relu(self.head(self.layers(x_BCHW)), 0.2)
        return (f_BD * self.context(context_BV)).sum(dim=1)


def score_weights(y_n: Tensor, temperature: float) -> Tensor:
    """Return the sampling weight of each image by its score, [n]; they sum to 1.

    A bin of scores gets n / (n + lambda) exp((y - y_best) / tau), n its share of the data and y its
    upper end. Its images share it equally.
    """
    lowest, highest = y_n.min(), y_n.max()
    width = (highest - lowest).clamp_min(1e-12) / BINS
    bin_n = ((y_n - lowest) / width).long().clamp_max(BINS - 1)
    share_Q = torch.bincount(bin_n, minlength=BINS).to(y_n) / len(y_n)
    below_Q = width * torch.arange(BINS - 1, -1, -1, device=y_n.device)
    weight_Q = share_Q / (share_Q + DISPERSION) * (-below_Q / temperature).exp()
    weight_n = (weight_Q / share_Q.clamp_min(1e-12))[bin_n]
    return weight_n / weight_n.sum()


def _like(rows_B: Tensor, x_BCHW: Tensor) -> Tensor:
    return rows_B.view(-1, *[1] * (x_BCHW.dim() - 1))
