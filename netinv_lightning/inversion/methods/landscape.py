"""`method=landscape`: descent in a learned space (Liu et al. 2022, arXiv 2206.09027).

    z ~ N(0, 1) -> mapping theta -> image -> classifier -> objective L
    training:  z <- z - rate dL/dz (a trajectory),   theta <- theta - Adam(mean of dL/dtheta)
    drawing:   a few steps of z <- z - rate dL/dz, with theta fixed -> image

The mapping is trained on the points of descent trajectories, so that few steps of plain gradient
descent in z reach a low loss: its cost is shared by all later inversions. The mapping does not get
the class; only the descent in z depends on it. With the generator of the papers it shares the
layers and the objective.

Differences from the paper:

- The paper alternates: collect trajectories with theta fixed, store them in a replay buffer, then
  train theta on stored points. Here each step takes a random part of the stored points, trains
  theta on them, and moves these points one step along their trajectories. A trajectory that has
  its full length starts again, with a new z and a new condition. A point then costs one pass
  through the classifier instead of two.
- The paper maps to the latent space of a GAN or of a body model. Here the mapped space is that of
  the images themselves.

Shape suffixes: B batch, M stored points, Z entries of z, N classes, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.config.rules import BATCH, POSITIVE, STEPS, WIDTH, Count
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.cost import CostMeter
from netinv_lightning.inversion.methods.trained import TrainedInversion
from netinv_lightning.inversion.methods.vector_decoder import VectorDecoder
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.inversion.terms import Step
from netinv_lightning.training.distributed import Stream

STORED_BATCHES = 8
"""Number of batches of points that are stored."""


class LandscapeInversion(TrainedInversion):
    """Descends in a space that was learned so that descent is fast.

    Args:
        conditioning: Draws the conditions.
        classifier: The network to invert; it is never changed.
        objective: The weighted loss terms.
        perturbation: Perturbs the images for the perturbed terms.
        augmentation: Random views of the images, which the classifier sees.
        seed: Seed of the mapping and of its training.
        log_every: Steps between two reports.
        micro_batch: Images that the classifier processes at once; None for all.
        steps: Training steps of the mapping.
        batch_size: Points per step.
        lr: Learning rate of Adam for the mapping.
        descent_steps: Steps of a trajectory, in training and when images are drawn.
        rate: Step size of the descent in z, for the sum of the losses of the images.
        latent_dim: Entries of z.
        width: Channels of the mapping's first layers.
    """

    def __init__(
        self,
        conditioning: Conditioning,
        classifier: FrozenClassifier,
        objective: Objective,
        perturbation: Perturbation,
        augmentation: Augmentation,
        seed: int,
        log_every: int,
        micro_batch: int | None,
        *,
        steps: Annotated[int, STEPS] = 300,
        batch_size: Annotated[int, BATCH] = 48,
        lr: Annotated[float, POSITIVE] = 6e-3,
        descent_steps: Annotated[int, Count(1, 10_000)] = 8,
        rate: Annotated[float, POSITIVE] = 1.0,
        latent_dim: Annotated[int, Count(2, 16_384)] = 32,
        width: Annotated[int, WIDTH] = 24,
    ) -> None:
        super().__init__(
            conditioning, classifier, objective,
            steps=steps, lr=lr, init_std=1.0, log_every=log_every,
        )  # fmt: skip
        self.perturbation, self.augmentation = perturbation, augmentation
        self.seed, self.batch_size, self.micro_batch = seed, batch_size, micro_batch
        self.descent_steps, self.rate, self.latent_dim = descent_steps, rate, latent_dim
        M, N = STORED_BATCHES * batch_size, classifier.spec.num_classes
        self.networks = nn.ModuleDict(
            {
                "mapping": VectorDecoder(classifier.spec, latent_dim, width, seed),
                "points": Points(M, latent_dim, N, descent_steps),
            }
        )

    @property
    def points(self) -> Points:
        points = self.networks["points"]
        assert isinstance(points, Points)
        return points

    def score(self, step: int, stream: Stream) -> tuple[Tensor, Tensor]:
        index_B = stream.uniform(len(self.points.z_MZ)).argsort()[: self.batch_size]
        new = self.conditioning.sample(self.batch_size, self.device, stream)
        self.points.restart(index_B, stream.normal(self.batch_size, self.latent_dim), new)
        z_BZ, condition = self.points.at(index_B)
        loss, gradient_BZ, values_V = self.differentiate(z_BZ, condition, stream)
        self.points.move(index_B, z_BZ.detach() - self.rate * gradient_BZ)
        return loss, values_V

    def differentiate(
        self, z_BZ: Tensor, condition: Condition, stream: Stream
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss, the gradient [B, Z] of each point's own loss, and the values to log.

        The classifier is passed backward once; the loss has the value of the objective, and its
        gradient with respect to the mapping.
        """
        z_BZ = z_BZ.detach().requires_grad_()
        x_BCHW = self.networks["mapping"](z_BZ)
        leaf_BCHW = x_BCHW.detach().requires_grad_()
        value, values_V = self._objective_of(leaf_BCHW, condition, stream)
        (of_images_BCHW,) = torch.autograd.grad(value, leaf_BCHW)
        # A linear function of the images with the same gradient as the objective
        linear = (x_BCHW * of_images_BCHW).sum()
        (of_points_BZ,) = torch.autograd.grad(linear, z_BZ, retain_graph=True)
        return linear + (value - linear).detach(), len(z_BZ) * of_points_BZ, values_V

    def _objective_of(
        self, x_BCHW: Tensor, condition: Condition, stream: Stream
    ) -> tuple[Tensor, Tensor]:
        step = Step.of_views(
            x_BCHW,
            self.augmentation(x_BCHW, stream),
            condition,
            self.classifier,
            micro_batch=self.micro_batch,
            perturbation=self.perturbation,
            stream=stream,
        )
        return self.objective.score(step, step.accuracy())

    @torch.enable_grad()
    def draw(self, condition: Condition, g: int = 0) -> Tensor:
        stream = Stream(int(torch.randint(2**62, ())), self.device)
        meter = CostMeter(self.classifier.forward_count)
        B = len(condition.label_B)
        # A single image is made twice, for the terms that compare images.
        rows_B = torch.arange(B if B > 1 else 2, device=self.device) % B
        condition = _plain(condition.label_B[rows_B], condition.target_BN[rows_B])
        z_BZ = stream.normal(len(rows_B), self.latent_dim)
        for _ in range(self.descent_steps):
            _, gradient_BZ, _ = self.differentiate(z_BZ, condition, stream)
            z_BZ = z_BZ - self.rate * gradient_BZ
        with torch.no_grad():
            x_BCHW: Tensor = self.networks["mapping"](z_BZ)[:B]
        self._add_drawing(meter)
        return x_BCHW

    def _add_drawing(self, meter: CostMeter) -> None:
        """Add the cost of a drawing to that of the training."""
        self.seconds += meter.seconds
        self.forwards += meter.forwards
        self.backwards += meter.backwards


class Points(nn.Module):
    """Points of trajectories, with their conditions and the steps that they have taken.

    Args:
        M: Points.
        latent_dim: Z.
        N: Classes.
        length: Steps of a trajectory.
    """

    z_MZ: Tensor
    label_M: Tensor
    target_MN: Tensor
    age_M: Tensor

    def __init__(self, M: int, latent_dim: int, N: int, length: int) -> None:
        super().__init__()
        self.length = length
        self.register_buffer("z_MZ", torch.zeros(M, latent_dim))
        self.register_buffer("label_M", torch.zeros(M, dtype=torch.long))
        self.register_buffer("target_MN", torch.zeros(M, N))
        self.register_buffer("age_M", torch.full((M,), length + 1))  # all start anew

    def restart(self, index_B: Tensor, z_BZ: Tensor, condition: Condition) -> None:
        """Start those trajectories anew whose last point has been used."""
        ended_B = self.age_M[index_B] > self.length
        index_E = index_B[ended_B]
        self.z_MZ[index_E], self.age_M[index_E] = z_BZ[ended_B], 0
        self.label_M[index_E] = condition.label_B[ended_B]
        self.target_MN[index_E] = condition.target_BN[ended_B].to(self.target_MN)

    def at(self, index_B: Tensor) -> tuple[Tensor, Condition]:
        """Return points [B, Z] and their conditions."""
        return self.z_MZ[index_B], _plain(self.label_M[index_B], self.target_MN[index_B])

    def move(self, index_B: Tensor, z_BZ: Tensor) -> None:
        """Replace points by the next ones of their trajectories."""
        self.z_MZ[index_B] = z_BZ
        self.age_M[index_B] += 1


def _plain(label_B: Tensor, target_BN: Tensor) -> Condition:
    """Return conditions for the terms of an objective, without the inputs of a generator."""
    return Condition(label_B=label_B, target_BN=target_BN, vector_BN=None, matrix_BMSS=None)
