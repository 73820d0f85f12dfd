"""Reconstruction by an informed adversary, who knows all training images but one.

Balle, Cherubin and Hayes 2022, "Reconstructing Training Data with Informed Adversaries", arXiv
2201.04845.

    known images and a target   ->  training  ->  released weights
    known images and image s    ->  training  ->  weights of shadow model s,   s = 1 to S
    (weights, image) of the shadow models  ->  training of the reconstruction network
    released weights  ->  reconstruction network  ->  the target

The adversary knows the recipe, the initial weights and the order of the batches as well. Several
targets are attacked with one reconstruction network, each in a released model of its own.

The network has two hidden layers of 1,000 units, a sigmoid, and the sum of absolute and squared
error as its loss, as in the code that the authors published. That code trains 10,000 shadow models
and gives the network the standardised weights. With a tenth of the models, the network gets less
and larger parts of its input instead: principal components of the direction in which the weights
of a model differ from the mean (`WeightFeatures`), with much weight decay.

A single linear layer that was trained to its optimum needs no shadow models (section on convex
models): the gradients of all training images and of the weight decay add up to zero, so that the
gradient of the target follows from the known images, and the target from its gradient
(`closed_form`).

Shape suffixes: n known images, S shadow models, T targets, M models, P parameters of a network, D
features of weights, X pixels, C channels, H height, W width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.inversion.methods.leaked_gradients import closed_form
from netinv_lightning.privacy.shadow_models import (
    image_loss,
    parameters,
    train_together,
    unstacked,
)
from netinv_lightning.privacy.stacked_training import StackRecipe
from netinv_lightning.tracking.run_context import RunContext
from netinv_lightning.training.gradient_steps import train_steps
from netinv_lightning.training.progress import log_progress, print_progress
from netinv_lightning.training.schedules import one_cycle
from netinv_lightning.training.seeds import own_randomness, random_order, stream_seed

TOGETHER = 2**22
"""Largest number of weights in one stack of networks."""
FEATURES, HIDDEN = 300, 1000
"""Reconstruction network: largest number of its inputs, and units of each hidden layer."""
STEPS, BATCH, LR, WEIGHT_DECAY = 1000, 50, 1e-3, 1.0
"""Its training with AdamW."""
LOSS = names.reconstruction("informed", "loss")


@dataclass(frozen=True)
class InformedData:
    """Four disjoint sets of images, of one data set.

    Attributes:
        known: Training images that the adversary knows.
        shadows: Further images of the adversary, one per shadow model.
        targets: The missing training image of each released model.
        held_out: The control: images of no model, with the classes of the targets.
    """

    known: Images
    shadows: Images
    targets: Images
    held_out: Images

    def to(self, device: torch.device) -> InformedData:
        return InformedData(*(getattr(self, name).to(device) for name in self.__annotations__))


@dataclass(frozen=True)
class Reconstructions:
    """What the attack found.

    Attributes:
        images: The reconstruction of each target, in [0, 1].
        by: How they were found, in words.
        accuracy: Mean accuracy of the released models on the held-out images.
        models: Number of networks that were trained.
        image_passes: Images that were passed forward and backward to train them.
    """

    images: Images
    by: str
    accuracy: float
    models: int
    image_passes: int


class InformedAttack:
    """The attack on the training recipe of a classifier.

    Args:
        classifier: A network with the initial weights of all models, in training mode.
        frozen: The same network, whose shape and output are read.
        recipe: The training of every model.
        data: Known images, shadow images, targets and control.
        seed: Seed of the order of the batches.
    """

    def __init__(
        self,
        classifier: Classifier,
        frozen: FrozenClassifier,
        recipe: StackRecipe,
        data: InformedData,
        seed: int,
    ) -> None:
        self.classifier, self.frozen, self.recipe = classifier, frozen, recipe
        self.data, self.seed = data, seed
        self.exact = recipe.optimizer == "sgd" and is_linear(classifier)

    def __call__(self, run: RunContext) -> Reconstructions:
        """Train the models and reconstruct the targets; a resumed run continues."""
        self.classifier.to(run.device)
        self.frozen.to(run.device)
        data = self.data.to(run.device)
        shadows = 0 if self.exact else len(data.shadows.labels_n)
        own = Images(
            torch.cat([data.targets.images_nCHW, data.shadows.images_nCHW[:shadows]]),
            torch.cat([data.targets.labels_n, data.shadows.labels_n[:shadows]]),
        )
        weights_MP = self._train_all(run, data.known, own)
        T = len(data.targets.labels_n)
        released_TP, shadow_SP = weights_MP[:T], weights_MP[T:]
        if self.exact:
            x_TCHW = torch.cat([self._solve(data.known, weights_P) for weights_P in released_TP])
        else:
            x_TCHW = self._reconstruct(run, released_TP, shadow_SP, data.shadows.images_nCHW)
        epochs = self.recipe.epochs
        return Reconstructions(
            images=Images(x_TCHW, data.targets.labels_n).to(torch.device("cpu")),
            by="in closed form" if self.exact else f"from {shadows} shadow models",
            accuracy=self._accuracy(released_TP, data.held_out),
            models=len(own.labels_n),
            image_passes=len(own.labels_n) * epochs * (len(data.known.labels_n) + 1),
        )

    def _train_all(self, run: RunContext, known: Images, own: Images) -> Tensor:
        """Return the weights [M, P] of one model per image of `own`."""
        together = max(1, TOGETHER // parameters(self.classifier))
        parts = torch.arange(len(own.labels_n)).split(together)
        trained = _Trained()
        snapshots = run.snapshots("models", every=1)
        with snapshots.kept(len(parts), models=trained) as (first, done):
            for part in range(first, len(parts)):
                print_progress(f"models of the informed adversary: {part + 1} of {len(parts)}")
                index = parts[part].to(own.labels_n.device)
                images = Images(own.images_nCHW[index], own.labels_n[index])
                weights = train_together(self.classifier, known, images, self.recipe, self.seed)
                trained.weights.append(weights.cpu())
                done(part + 1)
        return torch.cat(trained.weights).to(own.images_nCHW.device)

    def _solve(self, known: Images, weights_P: Tensor) -> Tensor:
        """Return the image [1, C, H, W] whose gradient balances that of the known images."""
        weights = {
            name: weight.requires_grad_()
            for name, weight in unstacked(self.classifier, weights_P).items()
        }
        decay = torch.stack([w.square().sum() for w in weights.values() if w.ndim > 1]).sum()
        loss = image_loss(self.classifier, weights, known, self.recipe.label_smoothing)
        loss = loss + (len(known.labels_n) + 1) * self.recipe.weight_decay / 2 * decay
        gradients = torch.autograd.grad(loss, list(weights.values()))
        of_target = {
            name.removeprefix("network."): -gradient
            for name, gradient in zip(weights, gradients, strict=True)
        }
        found = closed_form(self.frozen, of_target)
        assert found is not None  # the network is one linear layer with a bias
        return found

    def _reconstruct(
        self, run: RunContext, released_TP: Tensor, shadow_SP: Tensor, images_SCHW: Tensor
    ) -> Tensor:
        """Train the reconstruction network, and return its output [T, C, H, W] for each target."""
        x_SX, device = images_SCHW.flatten(1), run.device
        with own_randomness(self.seed, device):
            features = WeightFeatures(shadow_SP)
            z_SD = features(shadow_SP)
            network = nn.Sequential(
                nn.Linear(z_SD.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(),
                nn.Linear(HIDDEN, x_SX.shape[1]), nn.Sigmoid(),
            ).to(device)  # fmt: skip

        def compute_loss(step: int) -> Tensor:
            chosen = random_order(len(x_SX), stream_seed(self.seed, step))[:BATCH].to(device)
            error = network(z_SD[chosen]) - x_SX[chosen]
            return error.square().mean() + error.abs().mean()

        optimizer = torch.optim.AdamW(network.parameters(), LR, weight_decay=WEIGHT_DECAY)
        train_steps(
            compute_loss,
            optimizer,
            one_cycle(optimizer, LR, STEPS, rise=0.1),
            STEPS,
            parts={"network": network},
            snapshots=run.snapshots("reconstruction", every=250),
            on_step=log_progress("reconstruction network", STEPS, [], LOSS),
        )
        with torch.no_grad():
            x_TX: Tensor = network(features(released_TP))
        return x_TX.view(-1, *images_SCHW.shape[1:])

    @torch.no_grad()
    def _accuracy(self, weights_TP: Tensor, images: Images) -> float:
        """Return the mean accuracy of the released models on images that none was trained on."""
        right = [
            torch.func.functional_call(
                self.frozen, unstacked(self.classifier, weights_P), (images.images_nCHW,)
            ).argmax(dim=1) == images.labels_n
            for weights_P in weights_TP
        ]  # fmt: skip
        return float(torch.cat(right).double().mean())


def is_linear(classifier: Classifier) -> bool:
    """Return whether the network is one linear layer of all inputs with a bias."""
    with_weights = [
        module
        for module in classifier.network.modules()
        if next(module.parameters(recurse=False), None) is not None
    ]
    return (
        len(with_weights) == 1
        and isinstance(with_weights[0], nn.Linear)
        and with_weights[0].bias is not None
        and with_weights[0].in_features == math.prod(classifier.spec.shape)
    )


class WeightFeatures:
    """What the reconstruction network gets of the weights of a model.

        direction = (weights - mean) / |weights - mean|
        features = the largest principal components of the directions, [D]

    To first order, the image changes the weights by a multiple of its gradient. The length of this
    change depends on how well the image is classified, not on its content, and is divided out.

    Args:
        weights_SP: Weights of the shadow models, which determine mean and components.
    """

    def __init__(self, weights_SP: Tensor) -> None:
        self.mean_P = weights_SP.mean(dim=0)
        direction_SP = self._direction(weights_SP)
        self.centre_P = direction_SP.mean(dim=0)
        D = min(FEATURES, *weights_SP.shape)
        _, _, basis_PD = torch.svd_lowrank(direction_SP - self.centre_P, q=D, niter=4)
        self.basis_DP = basis_PD.T
        self.scale = ((direction_SP - self.centre_P) @ self.basis_DP.T).std().clamp_min(1e-12)

    def __call__(self, weights_MP: Tensor) -> Tensor:
        """Return the features [M, D]; those of the shadow models have a deviation of 1."""
        return (self._direction(weights_MP) - self.centre_P) @ self.basis_DP.T / self.scale

    def _direction(self, weights_MP: Tensor) -> Tensor:
        return F.normalize(weights_MP - self.mean_P, dim=1)


class _Trained:
    """The weights of the models that are trained, in a checkpoint."""

    def __init__(self) -> None:
        self.weights: list[Tensor] = []

    def state_dict(self) -> dict[str, list[Tensor]]:
        return {"weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, list[Tensor]]) -> None:
        self.weights = list(state_dict["weights"])
