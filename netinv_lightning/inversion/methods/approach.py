"""`application=approach`: gradient descent on the pixels towards targets other than classes.

Images are optimised as by `method=gradient`. The objective is the distance of an image to its
target, plus priors that need no class. No generator is used: a generator is trained on a
distribution of conditions, but a few given targets are not a distribution to draw from.

    theta ~ N(0, init_std^2) -> image -> frozen classifier -> logits or features -> distance ->
    theta

Shape suffixes: B batch, n images, t targets, D numbers of a target, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.methods.gradient import PixelInversion
from netinv_lightning.inversion.methods.targets import BATCH, Targets
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.terms import Step
from netinv_lightning.training.seeds import own_randomness, stream_seed

PRIORS = (
    "variation",
    "pixel",
    "batch_norm",
    "class_spread",
    "pixel_statistics",
    "spectrum",
    "patch_similarity",
)
"""Terms of the objective that need no class; images of one target count as one class.

The other terms need a class, or act on the features, which the target fixes."""


@dataclass(frozen=True)
class TargetCondition(Condition):
    """The targets of a batch: `label_B` contains their indices, `target_BN` their values."""

    targets: Targets

    @classmethod
    def of(cls, targets: Targets, row_B: Tensor) -> TargetCondition:
        """Return the condition for the targets `row_B`."""
        return cls(row_B, targets.rows_tD[row_B], None, None, targets)

    @classmethod
    def read(cls, step: Step) -> tuple[Targets, Tensor, Tensor]:
        """Return the targets of a step, the classifier's values [B, D], and target indices [B]."""
        condition = step.condition
        assert isinstance(condition, cls)
        row_B = condition.label_B
        value_BD = condition.targets.read(step.logits_BN, step.features, row_B)
        return condition.targets, value_BD, row_B


def target(step: Step) -> Tensor:
    """Mean loss of the images against their targets: a term of the objective."""
    targets, value_BD, row_B = TargetCondition.read(step)
    return targets.loss(value_BD, row_B).mean()


class TargetInversion(PixelInversion):
    """Gradient descent on the pixels towards given targets, in float32.

    The learning rate falls to a hundredth along a cosine, because at a constant rate Adam
    oscillates around the target. Adam has less momentum than by default, because with more momentum
    pixels saturate the sigmoid.

    Args:
        classifier: The network to invert; it is never changed.
        priors: Further terms of the objective, name to weight and options; the target has weight 1.
        options: Further arguments of `PixelInversion`.

    Raises:
        InputError: if a prior does not exist.
        ValueError: if a value is out of range. The message starts with `<argument>=<value>:`.
    """

    success = names.TARGET_ERROR
    shown = (names.loss("target"),)
    mixed_precision = False
    lr_key = "application.lr"

    def __init__(
        self,
        classifier: FrozenClassifier,
        priors: Mapping[str, Mapping[str, Any]],
        **options: Any,
    ) -> None:
        terms = {"target": {"weight": 1.0, "_target_": target}, **priors}
        spec = classifier.spec
        # Nothing is drawn from it, because the targets are given.
        conditioning = Conditioning(spec.num_classes, spec.image_size, "label")
        objective = Objective(terms, classifier.feature_layers)
        super().__init__(
            conditioning, classifier, objective, beta1=0.7, beta2=0.95, final_lr=0.01, **options
        )

    def approach(self, targets: Targets, images: int, seed: int) -> tuple[Tensor, Tensor]:
        """Optimise images for targets, each from its own start.

        Args:
            targets: The targets, on the device of the classifier.
            images: Images per target.
            seed: Seed of the starts, jitter and augmentation.

        Returns:
            Images [n, C, H, W] in [0, 1], on the CPU, ordered by target; and the target of each,
            [n].
        """
        row_n = torch.arange(len(targets), device=self.device).repeat_interleave(images)
        drawn = []
        # Images of one target stay in one batch, because the priors compare them.
        for number, row_B in enumerate(row_n.split(max(1, BATCH // images) * images)):
            with own_randomness(stream_seed(seed, number), self.device):
                drawn.append(self.draw(TargetCondition.of(targets, row_B)).cpu())
        return torch.cat(drawn), row_n.cpu()

    def _success(self, step: Step) -> Tensor:
        targets, value_BD, row_B = TargetCondition.read(step)
        return targets.error(value_BD, row_B).mean()
