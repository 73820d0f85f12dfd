"""Controls: sets of images of known worth, measured beside the inverted ones.

What a metric says of noise, of the mean of each class, of real images, and of images that plain gradient ascent finds is
what its value for inverted images is to be read against. Labels are balanced over the classes in all of them.

Shape suffixes: n images, C channels, H height, W width, N classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.noise import uniform_noise
from netinv_lightning.data.pixels import LARGEST_LEVEL, to_unit_range
from netinv_lightning.errors import InputError, nearest
from netinv_lightning.evaluation.image_sets import Images, halves_of_test
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
    return Images(uniform_noise(spec.image_shape, len(labels_n), seed), labels_n)


def class_means(
    count: int, classifier: FrozenClassifier, real: ImageDataModule | None, seed: int
) -> Images:
    """The mean training image of each class, over and over: right labels, no diversity."""
    assert real is not None
    images_nCHW, labels_n = real.train
    present_N = labels_n.unique()
    means_NCHW = torch.stack(
        [images_nCHW[labels_n == label].float().mean(dim=0) / LARGEST_LEVEL for label in present_N]
    )
    chosen_n = _balanced(count, len(present_N))
    return Images(means_NCHW[chosen_n], present_N[chosen_n])


def real_images(
    count: int, classifier: FrozenClassifier, real: ImageDataModule | None, seed: int
) -> Images:
    """Test images, as many of each class as the rarest has, from the half that judges nothing."""
    assert real is not None
    _, (images_nCHW, labels_n) = halves_of_test(real)
    source = torch.Generator().manual_seed(seed)
    members = [(labels_n == label).nonzero().flatten() for label in labels_n.unique()]
    each = min(max(1, count // len(members)), *(len(of_class) for of_class in members))
    chosen_n = torch.cat(
        [of_class[torch.randperm(len(of_class), generator=source)[:each]] for of_class in members]
    )
    return Images(to_unit_range(images_nCHW[chosen_n]), labels_n[chosen_n])


def gradient(
    count: int, classifier: FrozenClassifier, real: ImageDataModule | None, seed: int
) -> Images:
    """Gradient ascent on pixels towards the label, without any prior (Kindermann & Linden 1990); at most 1,000 images."""
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


CONTROLS: dict[str, Callable[[int, FrozenClassifier, ImageDataModule | None, int], Images]] = {
    "noise": noise,
    "class_means": class_means,
    "real": real_images,
    "gradient": gradient,
}
"""By name: from the number of images, the classifier under attack, the real data and a seed to a set of images."""

NEED_DATA = ("class_means", "real")


def check_controls(names: Sequence[str]) -> None:
    """Refuses an unknown control.

    Raises:
        InputError: naming the nearest.
    """
    for name in names:
        if name not in CONTROLS:
            raise InputError(
                f"measure.controls={name}: there is no such control; {nearest(name, CONTROLS)}"
            )


def _balanced(count: int, num_classes: int) -> Tensor:
    """`count` labels, as many of each class as the count allows."""
    return torch.arange(count) % num_classes
