"""Measure the distance of images to the targets of `application=approach`, and that of noise.

Shape suffixes: n images, t targets, K images per target, C channels, H height, W width, N classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.features import extract_logits
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.evaluation.baselines import noise
from netinv_lightning.evaluation.given_targets import GivenTargets
from netinv_lightning.inversion.methods.targets import (
    BATCH,
    Distributions,
    Neurons,
    Targets,
    Vectors,
    likeness,
    read_images,
    spread,
)

NOISE_IMAGES = 1000


def measure_targets(
    x_nCHW: Tensor,
    row_n: Tensor,
    given: GivenTargets,
    classifier: FrozenClassifier,
    verifiers: Sequence[FrozenClassifier],
    seed: int,
) -> tuple[dict[str, float], Tensor]:
    """Return the metrics and the error of each image.

    Args:
        x_nCHW: The images, without augmentation.
        row_n: Index of the target of each image.
        given: The targets and the images that belong to them.
        classifier: The inverted classifier.
        verifiers: Other networks, whose predictions are compared with those of the classifier.
        seed: Seed of the noise.
    """
    targets, t = given.targets, len(given.targets)
    count = max(NOISE_IMAGES // t, 100) * t
    noise_nCHW = noise(count, classifier, None, seed).images_nCHW
    read = read_images(x_nCHW, row_n, targets, classifier)
    of_noise = read_images(noise_nCHW, torch.arange(count) % t, targets, classifier)
    metrics = {names.TARGET_SPREAD: spread(x_nCHW, t)}
    if isinstance(targets, Neurons):
        metrics |= _activations(read.value_nD, noise_nCHW, given, targets, classifier)
    if not isinstance(targets, Neurons) or targets.value is not None:
        metrics |= _errors(read.error_n.view(t, -1), of_noise.error_n)
    if isinstance(targets, Distributions):
        device = targets.rows_tD.device
        variation_n = targets.total_variation(read.value_nD.to(targets.rows_tD), row_n.to(device))
        metrics[names.TARGET_TOTAL_VARIATION] = float(variation_n.mean())
    if isinstance(targets, Vectors):
        metrics[names.TARGET_ERROR_UNRELATED] = targets.unrelated()
        if given.image_tCHW is not None:
            metrics |= likeness(x_nCHW, row_n, given.image_tCHW)
    if verifiers:
        metrics[names.TARGET_AGREEMENT] = _agreement(x_nCHW, read.logits_nN, verifiers)
        metrics[names.TARGET_AGREEMENT_NOISE] = _agreement(
            noise_nCHW, of_noise.logits_nN, verifiers
        )
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
    return finite, read.error_n


def _activations(
    value_nD: Tensor,
    noise_nCHW: Tensor,
    given: GivenTargets,
    targets: Neurons,
    classifier: FrozenClassifier,
) -> dict[str, float]:
    metrics = {
        names.TARGET_REACHED: float(value_nD.mean()),
        names.TARGET_REACHED_BEST: float(value_nD.view(len(targets), -1).amax(dim=1).mean()),
        **targets.distribution("noise", noise_nCHW, classifier),
    }
    if given.image_tCHW is not None:
        metrics |= targets.distribution("file", given.image_tCHW, classifier)
    return metrics


def _errors(error_tK: Tensor, noise_error_n: Tensor) -> dict[str, float]:
    error, of_noise = error_tK.mean(), noise_error_n.mean()
    return {
        names.TARGET_ERROR: float(error),
        names.TARGET_ERROR_BEST: float(error_tK.amin(dim=1).mean()),
        names.TARGET_ERROR_NOISE: float(of_noise),
        names.TARGET_CLOSED: 1 - float(error / of_noise),
        **{names.target_error(row): float(error) for row, error in enumerate(error_tK.mean(dim=1))},
    }


@torch.no_grad()
def _agreement(x_nCHW: Tensor, logits_nN: Tensor, verifiers: Sequence[FrozenClassifier]) -> float:
    """Return the share of images with the classifier's prediction, averaged over the verifiers."""
    predicted_n, shares = logits_nN.argmax(dim=1), []
    for verifier in verifiers:
        theirs_n = extract_logits(verifier, x_nCHW, BATCH).argmax(dim=1)
        shares.append(float((theirs_n == predicted_n).float().mean()))
    return sum(shares) / len(shares)


def target_line(kind: str, images: int, metrics: Mapping[str, float], targets: Targets) -> str:
    """Return the result in one line.

    Args:
        kind: `soft`, `logits`, `neuron` or `features`.
        images: Images per target.
        metrics: Metrics from `measure_targets`.
        targets: The targets.
    """
    line = f"{kind}: {len(targets)} target(s), {images} image(s) each"
    if isinstance(targets, Neurons):
        return _neuron_line(line, metrics, targets)
    line += f": {targets.error_name} {metrics[names.TARGET_ERROR]:.2g}"
    line += f", best {metrics[names.TARGET_ERROR_BEST]:.2g}"
    if names.TARGET_TOTAL_VARIATION in metrics:
        line += f", total variation {metrics[names.TARGET_TOTAL_VARIATION]:.2g}"
    line += f"; uniform noise {metrics[names.TARGET_ERROR_NOISE]:.2g}"
    if names.TARGET_ERROR_UNRELATED in metrics:
        line += f", an unrelated target {metrics[names.TARGET_ERROR_UNRELATED]:.2g}"
    if names.TARGET_RMSE in metrics:
        rmse, ssim = metrics[names.TARGET_RMSE], metrics[names.TARGET_SSIM]
        line += f"; pixels: RMSE {rmse:.2f}, SSIM {ssim:.2f}"
    if names.TARGET_RMSE_UNRELATED in metrics:
        rmse, ssim = metrics[names.TARGET_RMSE_UNRELATED], metrics[names.TARGET_SSIM_UNRELATED]
        line += f" (another original: {rmse:.2f}, {ssim:.2f})"
    return line


def _neuron_line(line: str, metrics: Mapping[str, float], targets: Neurons) -> str:
    def activations(images: str) -> str:
        mean, p99 = (metrics[names.activation(images, what)] for what in ("mean", "p99"))
        return f"mean {mean:.3g}, 99th percentile {p99:.3g}"

    if targets.value is None:
        reached, best = metrics[names.TARGET_REACHED], metrics[names.TARGET_REACHED_BEST]
        line += f": activation {reached:.3g}, best {best:.3g}"
    else:
        error = metrics[names.TARGET_ERROR]
        line += f": {targets.error_name} {error:.2g} of value {targets.value:.3g}"
    line += f"; uniform noise: {activations('noise')}"
    if names.activation("file", "mean") in metrics:
        line += f"; images of the file: {activations('file')}"
    return line
