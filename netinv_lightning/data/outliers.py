"""Images that a classifier was not made for, brought to its shape by one rule (A6-7 to A6-9).

The rule, for an image of another shape than the classifier's data, in this order:

1. gray becomes RGB by three equal channels, RGB becomes gray by its luminance (ITU-R BT.601);
2. of an image that is not square the square in the middle stays, so nothing is stretched;
3. another size is resampled bilinearly, when made smaller with antialiasing. However small the image is, it is converted: a
   single pixel becomes a plain area of its colour.

An image that has the shape already is left untouched. So what differs from the classifier's data is what is seen, not its format.

How near a set is differs much. `left_out` is nearest: other classes of the very same data. Letters share strokes with digits, and
some have their shape (O and 0, l and 1). CIFAR-100 shares the source of CIFAR-10 but no class. Tiny ImageNet, in contrast, holds
classes that CIFAR-10 has too (cats, dogs, trucks): not all of it is out-of-distribution there.

Shape suffixes: n images, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
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
from netinv_lightning.data.outlier_names import KEY, LEFT_OUT, STRUCTURED, is_own, nothing_left_out
from netinv_lightning.data.pictures import SUFFIXES, as_rgb, pictures_in, read_picture
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.data.splits import stratified_indices
from netinv_lightning.errors import InputError, one_line

NOISE_STD = 0.25
"""Of Gaussian noise about 0.5, cut off at 0 and 1, which are two standard deviations away."""
TEST_STREAM = 2**31
"""Added to the seed of noise that tests, never to one that trains: torch's generator has 32-bit seeds, so with run seeds below this
no noise that anything was trained or tuned on is tested on, whatever the two seeds are."""
DECODED = 4
"""A JPEG is decoded at this many times the side that it is resampled to, if it is that large: three times faster."""


def gaussian_noise(spec: DataSpec, count: int, seed: int) -> Tensor:
    """Pixels of N(0.5, 0.25^2), cut off at 0 and 1."""
    shape = (count, spec.channels, spec.image_size, spec.image_size)
    return (
        0.5 + NOISE_STD * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    ).clamp(0, 1)


def uniform_noise(spec: DataSpec, count: int, seed: int) -> Tensor:
    """Pixels of U[0, 1]."""
    return torch.rand(
        count,
        spec.channels,
        spec.image_size,
        spec.image_size,
        generator=torch.Generator().manual_seed(seed),
    )


def emnist_letters(root: Path, train: bool) -> Split:
    """Handwritten letters, 26 classes; the files hold them on their side."""
    data = torchvision_set(datasets.EMNIST, root, split="letters", train=train)
    return data.data[:, None].transpose(2, 3).contiguous(), data.targets - 1


NOISE: dict[str, Callable[[DataSpec, int, int], Tensor]] = {
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
) -> Tensor:
    """Images of a set, in the shape of `spec`.

    Args:
        name: Of the set, one that `check_outliers` lets pass.
        spec: Of the classifier's data.
        count: How many at most; if the set has more, each of its classes keeps its share.
        seed: Of the choice of images, or of the noise.
        root: Folder of the data sets.
        train: Images of the training split, for outlier exposure, instead of the test split; noise of another stream.
        real: The data that the classifier was trained on; needed for `left_out`.

    Returns:
        float32 [n, C, H, W] in [0, 1].

    Raises:
        InputError: if the data are not there or damaged, or there are none.
    """
    if is_own(name):
        return _own(Path(name), spec, count, seed)
    if name in NOISE:
        return NOISE[name](spec, count, seed if train else seed + TEST_STREAM)
    if name in STRUCTURED:
        return _structured(name, spec, count, seed, root, train)
    if name == LEFT_OUT:
        if real is None:
            raise ValueError(f"{LEFT_OUT}: needs the data that its classes are left out of")
        images_nCHW, labels_n = real.left_out_train if train else real.left_out_test
        if not len(labels_n):
            raise InputError(nothing_left_out(real.spec.name))
    else:
        images_nCHW, labels_n = IMAGES[name](root, train)
    chosen_n = stratified_indices(labels_n, min(count, len(labels_n)), seed)
    return in_shape_of(spec, images_nCHW[chosen_n].float() / 255)


def in_shape_of(spec: DataSpec, x_nCHW: Tensor) -> Tensor:
    """Gray or RGB images in [0, 1], of any size, in the channels and the size of `spec`, by the rule above."""
    if x_nCHW.shape[1] != spec.channels:
        x_nCHW = x_nCHW.expand(-1, 3, -1, -1) if spec.channels == 3 else rgb_to_grayscale(x_nCHW)
    H, W = x_nCHW.shape[2:]
    side = min(H, W)
    top, left = (H - side) // 2, (W - side) // 2
    x_nCHW = x_nCHW[:, :, top : top + side, left : left + side]
    if side != spec.image_size:
        x_nCHW = F.interpolate(
            x_nCHW, (spec.image_size, spec.image_size), mode="bilinear", antialias=True
        ).clamp(0, 1)
    return x_nCHW


def _own(path: Path, spec: DataSpec, count: int, seed: int) -> Tensor:
    """A user's own images; of a folder the pictures at any depth, of which only the chosen ones are opened."""
    if path.is_file():
        images_nCHW = read_images(path, KEY)
        return in_shape_of(spec, images_nCHW[_choice(len(images_nCHW), count, seed)].float() / 255)
    files = pictures_in(path, deep=True)
    if not files:
        raise InputError(f"{KEY}={path}: holds no pictures ({', '.join(sorted(SUFFIXES))})")
    chosen = [files[index] for index in _choice(len(files), count, seed).tolist()]
    return torch.cat(
        [
            _pixels(read_picture(file, f"{KEY}={path}", DECODED * spec.image_size), spec)
            for file in chosen
        ]
    )


def _choice(n: int, count: int, seed: int) -> Tensor:
    return stratified_indices(torch.zeros(n, dtype=torch.int64), min(count, n), seed)


def _structured(
    name: str, spec: DataSpec, count: int, seed: int, root: Path, train: bool
) -> Tensor:
    """Images of a set of `STRUCTURED`, which are files of various sizes, so only the chosen ones are opened."""
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
            f"data.root={root}: the outlier set {name} is not there or is damaged (looked in {root.absolute()}) and could not be "
            f"downloaded ({one_line(error)}). Put {dataset.filename} there and unpack it, so that its images lie in {folder.rstrip('/')}"
        ) from error
    images = []
    for index in _choice(len(data), count, seed).tolist():
        try:
            image = data[index][0]
            image.draft(None, (DECODED * spec.image_size,) * 2)
            images.append(_pixels(as_rgb(image), spec))
        except Exception as error:  # Pillow answers damaged bytes with whatever it trips over
            raise InputError(
                f"data.root={root}: an image of {name} cannot be read ({one_line(error)}); unpack {dataset.filename} again"
            ) from error
    return torch.cat(images)


def _pixels(image: Image.Image, spec: DataSpec) -> Tensor:
    return in_shape_of(spec, pil_to_tensor(image)[None].float() / 255)
