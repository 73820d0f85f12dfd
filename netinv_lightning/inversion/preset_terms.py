"""Terms on BatchNorm statistics, those of published presets, and the predictive uncertainty.

They are terms like those of `terms.py`, which lists them.

Shape suffixes: B batch, N classes, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.inversion import losses
from netinv_lightning.inversion.uncertainty import dropout_passes

if TYPE_CHECKING:
    from netinv_lightning.inversion.terms import Step


def batch_norm(step: Step, pixels: float = 1.0) -> Tensor:
    """Mean distance of the batch's statistics to the running statistics of the BatchNorm layers.

    `pixels` is the weight of the distance to mean and standard deviation of the classifier's
    normalisation. The term is 0 for a network without BatchNorm and normalisation.
    """
    layers = step.classifier.batch_norms
    terms = [
        losses.statistics_distance(x_BC, *running_statistics(layers[name]))
        for name, x_BC in step.normed.items()
        if name in layers
    ]
    total = torch.stack(terms).mean() if terms else step.x_BCHW.new_zeros(())
    if pixels and step.classifier.normalises:
        total = total + pixels * pixel_statistics(step)
    return total


def pixel_statistics(step: Step) -> Tensor:
    """Distance of the batch's pixels to mean and standard deviation of the normalisation.

    These are usually the statistics of the training images.
    """
    mean_C, std_C = step.classifier.mean_C11.flatten(), step.classifier.std_C11.flatten()
    return losses.statistics_distance(step.x_BCHW, mean_C, std_C.square())


def logit(step: Step) -> Tensor:
    """Minus the mean logit of the requested class or labels: feature visualisation of the class."""
    if step.classifier.multi_label:
        return -step.logits_BN.float()[step.condition.target_BN > 0.5].mean()
    return -step.logits_BN.float().gather(1, step.condition.label_B[:, None]).mean()


def batch_norm_l2(step: Step, first: float = 10.0) -> Tensor:
    """Sum of the distances of the batch's statistics to the running statistics, as published.

    In DeepInversion (Yin et al. 2020) each layer counts by its scale; in `batch_norm` it does not.

    Args:
        step: The training step.
        first: Factor of the first BatchNorm layer; 10 in the published code for ImageNet, 1 in that
            for CIFAR-10.
    """
    layers = step.classifier.batch_norms
    terms = [
        losses.statistics_norms(x_BC, *running_statistics(layers[name]))
        for name, x_BC in step.normed.items()
        if name in layers
    ]
    return torch.stack([first * terms[0], *terms[1:]]).sum()


def total_variation(step: Step) -> Tensor:
    """Sum of the norms of the differences of neighbouring pixels, of normalised images."""
    return losses.total_variation(step.normalised())


def pixel_norm(step: Step) -> Tensor:
    """Mean Euclidean norm of the normalised images, as in DeepInversion."""
    return step.normalised().flatten(1).norm(dim=1).mean()


def uncertainty(
    step: Step,
    kind: str = "predictive",
    passes: int = 8,
    networks: Sequence[FrozenClassifier] = (),
) -> Tensor:
    """Predictive uncertainty of the classifier under dropout, or of an ensemble with it.

    This is the penalty of Autoinverse (Ansari et al. 2022, NeurIPS).

    Args:
        step: The training step.
        kind: `predictive`, or `epistemic` for the disagreement alone.
        passes: Forward passes with dropout, if no networks are given.
        networks: Classifiers of the ensemble beside the inverted one, named as verifiers are. They
            must not be verifiers of the run.
    """
    others = networks or dropout_passes(step.classifier, passes, step.stream)
    logits = [step.classify(step.x_BCHW, other).float() for other in others]
    if networks:
        logits.append(step.logits_BN.float())
    return losses.uncertainty(
        torch.stack(logits), step.classifier.multi_label, epistemic=kind == "epistemic"
    )


def running_statistics(layer: nn.Module) -> tuple[Tensor, Tensor]:
    mean_C, var_C = layer.running_mean, layer.running_var
    assert isinstance(mean_C, Tensor)
    assert isinstance(var_C, Tensor)
    return mean_C, var_C
