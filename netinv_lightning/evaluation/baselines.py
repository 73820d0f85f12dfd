"""Baselines: sets of images whose metrics are compared with those of the inverted images.

They are uniform noise, the mean image of each class, real images, and images of gradient ascent
without a prior. The labels of each set are balanced over the classes.

Shape suffixes: n images, C channels, H height, W width, N classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data import splits
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.noise import uniform_noise
from netinv_lightning.data.pixels import LARGEST_LEVEL, to_unit_range
from netinv_lightning.errors import InputError, nearest
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.real_data import halves_of_test
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.methods.gradient import PixelInversion
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.training.seeds import own_randomness

GRADIENT_IMAGES = 1000  # each takes 50 forward and backward passes
GRADIENT_BATCH = 250


def noise(
    count: int, classifier: FrozenClassifier, real: ImageDataModule | None, seed: int
) -> Images:
    """Pixels uniform in [0, 1]."""
    spec, labels_n = classifier.spec, _balanced(count, classifier.spec.num_classes)
    return Images(uniform_noise(spec.shape, len(labels_n), seed), labels_n)


def class_means(
    count: int, classifier: FrozenClassifier, real: ImageDataModule | None, seed: int
) -> Images:
    """The mean training image of each class, repeated: correct labels, no diversity."""
    assert real is not None
    images_nCHW, labels_n = real.train
    means_NCHW, present_N = splits.class_means(images_nCHW, labels_n)
    chosen_n = _balanced(count, len(present_N))
    return Images((means_NCHW / LARGEST_LEVEL)[chosen_n], present_N[chosen_n])


def real_images(
    count: int, classifier: FrozenClassifier, real: ImageDataModule | None, seed: int
) -> Images:
    """Test images, equally many per class, from the half that no metric uses."""
    assert real is not None
    _, (images_nCHW, labels_n) = halves_of_test(real)
    count_N = labels_n.bincount()
    present = count_N[count_N > 0]
    each = min(max(1, count // len(present)), int(present.min()))
    source = torch.Generator().manual_seed(seed)
    chosen_n = splits.choose_per_class(labels_n, [each] * len(count_N), source)
    return Images(to_unit_range(images_nCHW[chosen_n]), labels_n[chosen_n])


def gradient(
    count: int, classifier: FrozenClassifier, real: ImageDataModule | None, seed: int
) -> Images:
    """Gradient ascent on the pixels without a prior (Kindermann and Linden 1990), at most 1,000."""
    spec = classifier.spec
    labels_n = _balanced(min(count, GRADIENT_IMAGES), spec.num_classes)
    conditioning = Conditioning(spec.num_classes, spec.image_size, mode="label")
    pixels = PixelInversion(conditioning, classifier, Objective({"ce": {"weight": 1.0}}))
    with own_randomness(seed, pixels.device):
        parts = [
            pixels.draw(conditioning.of_labels(part_B.to(pixels.device)))
            for part_B in labels_n.split(GRADIENT_BATCH)
        ]
    return Images(torch.cat(parts).cpu(), labels_n)


BASELINES: dict[str, Callable[[int, FrozenClassifier, ImageDataModule | None, int], Images]] = {
    "noise": noise,
    "class_means": class_means,
    "real": real_images,
    "gradient": gradient,
}
"""Functions that create a baseline from a number of images, the inverted classifier, the real data
and a seed."""

NEED_DATA = ("class_means", "real")


def check_baselines(names: Sequence[str]) -> None:
    """Check the names of baselines.

    Raises:
        InputError: if a name is unknown; the message suggests the closest match.
    """
    for name in names:
        if name not in BASELINES:
            raise InputError(
                f"measure.controls={name}: is not a baseline; {nearest(name, BASELINES)}"
            )


def _balanced(count: int, num_classes: int) -> Tensor:
    """Return `count` labels, balanced over the classes as far as possible."""
    return torch.arange(count) % num_classes
