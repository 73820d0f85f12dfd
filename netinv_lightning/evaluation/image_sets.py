"""Sets of images to measure: drawn by an inversion, or read from a file.

Shape suffixes: n images, C channels, H height, W width, N classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from netinv_lightning.data.pixels import from_units, to_units
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.data.tensor_files import read_tensors
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.inversion_accuracy import batches, draw_batch
from netinv_lightning.inversion.base import Inversion


@dataclass
class Images:
    """A set of images to measure.

    Attributes:
        images_nCHW: Images in [0, 1].
        labels_n: Requested class of each image.
        targets_nN: Conditioning distribution of each image; None for one-hot.
        generator_n: Index of the generator of each image; None if it is unknown.
    """

    images_nCHW: Tensor
    labels_n: Tensor
    targets_nN: Tensor | None = None
    generator_n: Tensor | None = None

    def to(self, device: torch.device) -> Images:
        return self._each(lambda values: values.to(device))

    def first(self, key: str, count: int) -> Images:
        """Return the first `count` images.

        Raises:
            InputError: if there are fewer; the message names `key`.
        """
        if count > (n := len(self.labels_n)):
            raise InputError(f"{key}={count}: there are {n} images. Use {n} or fewer")
        return self._each(lambda values: values[:count])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Images:
        targets_nN, generator_n = (
            None if values is None else change(values)
            for values in (self.targets_nN, self.generator_n)
        )
        return Images(change(self.images_nCHW), change(self.labels_n), targets_nN, generator_n)


def draw_images(
    module: Inversion, batch_size: int, seed: int, hot: bool | None = None
) -> Callable[[int], Images]:
    """Return a function that draws the same images as the evaluation with these arguments.

    With `hot` they are conditioned on one-hot vectors; None for the setting of the run.
    """

    def draw(count: int) -> Images:
        parts: list[tuple[Tensor, ...]] = []
        for number, (g, size) in enumerate(batches(count, batch_size, module.n_generators)):
            condition, x_BCHW = draw_batch(module, g, number, size, seed, hot)
            parts.append(
                (
                    x_BCHW.cpu(),
                    condition.label_B.cpu(),
                    condition.target_BN.cpu(),
                    torch.full((size,), g),
                )
            )
        return Images(*(torch.cat(part).contiguous() for part in zip(*parts, strict=True)))

    return draw


def write_samples(images: Images, path: Path, spec: DataSpec) -> None:
    """Write inputs of the classifier that `spec` describes, in the format of `read_samples`."""
    tensors = {
        "images": to_units(images.images_nCHW, spec),
        "labels": images.labels_n,
        "conditioning": images.targets_nN,
        "generator": images.generator_n,
    }
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)


def read_samples(path: Path, where: str, spec: DataSpec) -> Images:
    """Read images from a safetensors file.

    Its tensors are `images` [n, C, H, W] in [0, 1] or uint8 (signals [n, C, L] and tables [n, C] in
    the units of their data), `labels` [n], and optionally `conditioning` [n, N] and `generator`
    [n].

    Args:
        path: The file.
        where: The key and its value, for the message.
        spec: Facts of the classifier's inputs.

    Raises:
        InputError: if the file or one of its tensors is missing or damaged.
    """
    tensors = read_tensors(path, where)
    axes = ", ".join(
        ["n", "C", "H", "W"] if spec.modality == "images" else map(str, ("n", *spec.shape))
    )
    for name, dims in (("images", 1 + len(spec.shape)), ("labels", 1)):
        if name not in tensors or tensors[name].dim() != dims:
            raise InputError(
                f"{where}: must contain the tensors images [{axes}] and labels [n]; "
                f"it contains {', '.join(tensors)}"
            )
    images_nCHW, labels_n = tensors["images"], tensors["labels"]
    images_nCHW = from_units(images_nCHW, spec)
    if not images_nCHW.is_floating_point() or labels_n.is_floating_point():
        raise InputError(
            f"{where}: images must be floating-point or uint8, and labels integers, "
            f"not {images_nCHW.dtype} and {labels_n.dtype}"
        )
    return Images(
        images_nCHW.float(), labels_n.long(), tensors.get("conditioning"), tensors.get("generator")
    )


def check_images(images: Images, spec: DataSpec) -> None:
    """Check that images are valid input of a classifier of `spec`.

    Raises:
        InputError: if shapes differ, or pixels or labels are out of range.
    """
    x_nCHW, labels_n, n = images.images_nCHW, images.labels_n, len(images.labels_n)
    shape, N = spec.shape, spec.num_classes
    if x_nCHW.shape != (n, *shape):
        raise InputError(
            f"samples: {len(x_nCHW)} images of shape {tuple(x_nCHW.shape[1:])} with {n} labels; "
            f"must be one label per image, and images of the classifier's shape {shape}"
        )
    broken = int((~x_nCHW.flatten(1).isfinite().all(dim=1)).sum())
    if broken:
        raise InputError(
            f"samples: {broken} of {n} images contain NaN or infinity. "
            "Remove them, or generate the images again"
        )
    outside = int(((x_nCHW < 0) | (x_nCHW > 1)).flatten(1).any(dim=1).sum())
    if outside:
        raise InputError(
            f"samples: {outside} of {n} images have pixels outside [0, 1]. Scale them to [0, 1]"
        )
    wrong = int(((labels_n < 0) | (labels_n >= N)).sum())
    if wrong:
        raise InputError(
            f"samples: {wrong} of {n} labels are not from 0 to {N - 1}. "
            f"The classifier has {N} classes"
        )
    targets_nN = images.targets_nN
    if targets_nN is not None and (targets_nN.shape != (n, N) or not targets_nN.isfinite().all()):
        raise InputError(
            f"samples: conditioning has shape {tuple(targets_nN.shape)}; "
            f"must be finite numbers of shape {(n, N)}"
        )
