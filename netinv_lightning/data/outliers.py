"""Outlier sets, converted to the shape of the classifier's data by one rule.

The rule, for an image of another shape than the classifier's data, in this order:

1. grey images become RGB by repeating the channel; RGB images become grey by their luminance (ITU-R
   BT.601);
2. an image that is not square is cropped to the square in its middle;
3. another size is resampled bilinearly, with antialiasing when it becomes smaller.

Images that already have the shape are not changed. Sets therefore differ from the classifier's data
in content, not in format.

Some sets are close to the classifier's data. `left_out` is closest: other classes of the same data.
Letters share strokes with digits, and some have the same shape (O and 0, l and 1). CIFAR-100 has
the same source as CIFAR-10, but other classes. Tiny ImageNet contains classes of CIFAR-10 (cats,
dogs, trucks), so not all of it is out-of-distribution.

Shape suffixes: n images, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision import datasets
from torchvision.transforms.functional import pil_to_tensor, rgb_to_grayscale

from netinv_lightning.data.arrays import read_images
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.datasets import LOADERS, Split, open_or_download, torchvision_set
from netinv_lightning.data.noise import gaussian_noise, uniform_noise
from netinv_lightning.data.outlier_names import KEY, LEFT_OUT, STRUCTURED, is_own, nothing_left_out
from netinv_lightning.data.pictures import SUFFIXES, as_rgb, pictures_in, read_picture
from netinv_lightning.data.pixels import to_unit_range
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.data.splits import stratified_indices
from netinv_lightning.errors import InputError, one_line

TEST_STREAM = 2**31
"""Offset of the seed of noise for testing. Noise for training has no offset, so that no detector is
tested on noise that it was trained or tuned on (if the seed of the run is below the offset)."""
DECODED = 4
"""Large JPEG files are decoded at this multiple of the final side, in a third of the time."""


def emnist_letters(root: Path, train: bool) -> Split:
    """Return handwritten letters, 26 classes; the images in the files are transposed."""
    data = torchvision_set(datasets.EMNIST, root, split="letters", train=train)
    return data.data[:, None].transpose(2, 3).contiguous(), data.targets - 1


NOISE: dict[str, Callable[[Sequence[int], int, int], Tensor]] = {
    "gaussian_noise": gaussian_noise,
    "uniform_noise": uniform_noise,
}
IMAGES: dict[str, Callable[[Path, bool], Split]] = {**LOADERS, "emnist_letters": emnist_letters}


def outliers(
    name: str,
    spec: DataSpec,
    count: int,
    seed: int,
    root: Path,
    train: bool = False,
    real: ImageDataModule | None = None,
    key: str = KEY,
) -> Tensor:
    """Return images of a set, in the shape of `spec`.

    Args:
        name: The set; `check_outliers` has accepted it.
        spec: Facts of the classifier's data.
        count: Maximum number of images, stratified by class.
        seed: Seed of the selection, or of the noise.
        root: Folder of the data sets.
        train: Use the training split, for outlier exposure, instead of the test split; noise then
            has another seed.
        real: The data that the classifier was trained on; needed for `left_out`.
        key: The key that names the set, for errors.

    Returns:
        float32 [n, C, H, W] in [0, 1].

    Raises:
        InputError: if the data are missing, damaged or empty.
    """
    if is_own(name):
        return _own(Path(name), spec, count, seed, key)
    if name in NOISE:
        return NOISE[name](spec.shape, count, seed if train else seed + TEST_STREAM)
    if name in STRUCTURED:
        return _structured(name, spec, count, seed, root, train, key)
    if name == LEFT_OUT:
        if real is None:
            raise ValueError(f"{LEFT_OUT}: needs the data set with the left-out classes")
        images_nCHW, labels_n = real.left_out_train if train else real.left_out_test
        if not len(labels_n):
            raise InputError(nothing_left_out(real.spec.name))
    else:
        images_nCHW, labels_n = IMAGES[name](root, train)
    chosen_n = stratified_indices(labels_n, min(count, len(labels_n)), seed)
    return in_shape_of(spec, to_unit_range(images_nCHW[chosen_n]), key)


def in_shape_of(spec: DataSpec, x_nCHW: Tensor, key: str = KEY) -> Tensor:
    """Convert grey or RGB images in [0, 1] of any size to the shape of `spec` by the rule above."""
    if spec.modality != "images":
        raise InputError(
            f"{key}: the set contains images, but the classifier takes {spec.modality}; choose "
            f"noise: {', '.join(NOISE)}"
        )
    if x_nCHW.shape[1] != spec.channels:
        if spec.channels not in (1, 3):
            raise InputError(
                f"{key}: its images have {x_nCHW.shape[1]} channels, but the classifier has "
                f"{spec.channels}; choose images with {spec.channels} channels, or noise"
            )
        x_nCHW = x_nCHW.expand(-1, 3, -1, -1) if spec.channels == 3 else rgb_to_grayscale(x_nCHW)
    H, W = x_nCHW.shape[2:]
    height, width = spec.sides
    crop_H, crop_W = min(H, max(1, W * height // width)), min(W, max(1, H * width // height))
    top, left = (H - crop_H) // 2, (W - crop_W) // 2
    x_nCHW = x_nCHW[:, :, top : top + crop_H, left : left + crop_W]
    if (crop_H, crop_W) != (height, width):
        x_nCHW = F.interpolate(x_nCHW, (height, width), mode="bilinear", antialias=True).clamp(0, 1)
    return x_nCHW


def _own(path: Path, spec: DataSpec, count: int, seed: int, key: str) -> Tensor:
    """Return images of a user's file or folder, at any depth; only the chosen files are read."""
    if path.is_file():
        images_nCHW = read_images(path, key)
        chosen_n = _choice(len(images_nCHW), count, seed)
        return in_shape_of(spec, to_unit_range(images_nCHW[chosen_n]), key)
    files = pictures_in(path, deep=True)
    if not files:
        raise InputError(f"{key}={path}: contains no pictures ({', '.join(sorted(SUFFIXES))})")
    chosen = [files[index] for index in _choice(len(files), count, seed).tolist()]
    return torch.cat(
        [
            _pixels(read_picture(file, f"{key}={path}", DECODED * max(spec.sides)), spec, key)
            for file in chosen
        ]
    )


def _choice(n: int, count: int, seed: int) -> Tensor:
    return stratified_indices(torch.zeros(n, dtype=torch.int64), min(count, n), seed)


def _structured(
    name: str, spec: DataSpec, count: int, seed: int, root: Path, train: bool, key: str
) -> Tensor:
    """Return images of a set of `STRUCTURED`; only the files of the chosen ones are opened."""
    from pytorch_ood.dataset import img  # type: ignore[import-untyped]

    class_name, has_training = STRUCTURED[name]
    dataset = getattr(img, class_name)
    try:
        data = open_or_download(
            dataset, root, **({"subset": "train" if train else "test"} if has_training else {})
        )
    except Exception as error:
        folder = dataset.dir_name if has_training else dataset.base_folder
        raise InputError(
            f"data.root={root}: the outlier set {name} is missing or damaged (looked in "
            f"{root.absolute()}) and could not be "
            f"downloaded ({one_line(error)}). Put {dataset.filename} there and unpack it, so that "
            f"its images lie in {folder.rstrip('/')}"
        ) from error
    images = []
    for index in _choice(len(data), count, seed).tolist():
        try:
            image = data[index][0]
            image.draft(None, (DECODED * max(spec.sides),) * 2)
            images.append(_pixels(as_rgb(image), spec, key))
        except Exception as error:  # damaged files raise many kinds of errors
            raise InputError(
                f"data.root={root}: an image of {name} cannot be read ({one_line(error)}); unpack "
                f"{dataset.filename} again"
            ) from error
    return torch.cat(images)


def _pixels(image: Image.Image, spec: DataSpec, key: str) -> Tensor:
    return in_shape_of(spec, to_unit_range(pil_to_tensor(image)[None]), key)
