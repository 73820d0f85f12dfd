"""A user's own images: an .npz file with X and y, or a folder with one folder of images a class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets
from torchvision.transforms import functional as transforms

from netinv_lightning.data.sources import Split
from netinv_lightning.data.spec import DataSpec
from netinv_lightning.errors import InputError, one_line


def read_npz(path: Path, key: str = "data.path") -> tuple[Split, tuple[str, ...]]:
    """Reads X, uint8, [n, H, W] or [n, H, W, C] or [n, C, H, W], and y, whole numbers from 0, [n].

    Raises:
        InputError: if the file is missing, damaged, or X and y are not of that kind.
    """
    where = f"{key}={path}"
    X, y = _arrays(path, where, ("X", "y"))
    images_nCHW = _images(X, where)
    y = y.reshape(len(y)) if y.ndim == 2 and y.shape[1] == 1 else y
    if y.shape != (len(X),) or not np.issubdtype(y.dtype, np.integer) or y.min() < 0:
        raise InputError(f"{where}: y has shape {y.shape} and type {y.dtype}; it must be {len(X)} whole numbers from 0")
    names = tuple(str(label) for label in range(int(y.max()) + 1))
    return (images_nCHW, torch.from_numpy(y.astype(np.int64))), names


def read_npz_images(path: Path, key: str) -> Tensor:
    """Reads X alone, as uint8 images [n, C, H, W], labelled or not.

    Raises:
        InputError: as `read_npz`.
    """
    where = f"{key}={path}"
    (X,) = _arrays(path, where, ("X",))
    return _images(X, where)


def _arrays(path: Path, where: str, wanted: tuple[str, ...]) -> list[np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:  # pickled arrays could run code
            if missing := {*wanted} - {*content.files}:
                arguments = ", ".join(f"{name}=..." for name in wanted)
                raise InputError(f"{where}: holds {content.files}, but not {sorted(missing)}; save with np.savez(path, {arguments})")
            return [content[name] for name in wanted]
    except InputError:
        raise
    except Exception as error:  # numpy answers damaged bytes with whatever it trips over
        raise InputError(
            f"{where}: cannot be read ({one_line(error)}); it must be an .npz file with {' and '.join(wanted)}, plain number arrays"
        ) from error


def _images(X: np.ndarray, where: str) -> Tensor:
    """[n, C, H, W] of any of the layouts."""
    if X.size == 0:
        raise InputError(f"{where}: X has shape {X.shape}: it holds no images")
    if X.dtype != np.uint8:
        raise InputError(f"{where}: X is {X.dtype}; it must be uint8, 0 to 255")
    if X.ndim == 3:
        X = X[:, None]
    elif X.ndim == 4 and X.shape[-1] in (1, 3):
        X = X.transpose(0, 3, 1, 2)
    if X.ndim != 4 or X.shape[1] not in (1, 3) or X.shape[2] != X.shape[3]:
        raise InputError(f"{where}: X has shape {X.shape}; it must be square images [n, H, W], [n, H, W, C] or [n, C, H, W], C = 1 or 3")
    return torch.from_numpy(np.ascontiguousarray(X))


def read_folder(path: Path, image_size: int | None, key: str = "data.path") -> tuple[Split, tuple[str, ...]]:
    """Reads `path/<class name>/<image>`; other sizes than `image_size` (default: the first image's) are resized.

    Raises:
        InputError: if there is no such folder, or no images in it.
    """
    try:
        folder = datasets.ImageFolder(str(path))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{key}={path}: {one_line(error)}; it must hold one folder of images a class") from error
    images: list[Tensor] = []
    for file, _ in folder.samples:
        try:
            image = folder.loader(file)
        except Exception as error:  # Pillow answers damaged bytes with whatever it trips over
            raise InputError(f"{key}={path}: {file} cannot be read ({one_line(error)}); remove or replace it") from error
        image_size = image_size or min(image.size)
        if image.size != (image_size, image_size):
            image = transforms.center_crop(transforms.resize(image, image_size), [image_size, image_size])
        images.append(transforms.pil_to_tensor(image.convert("RGB")))
    return (torch.stack(images), torch.tensor(folder.targets)), tuple(folder.classes)


def describe(name: str, split: Split, class_names: tuple[str, ...]) -> DataSpec:
    """The facts of a training split, with mean and standard deviation measured on it."""
    images_nCHW, _ = split
    pixels = images_nCHW.float() / 255
    return DataSpec(
        name=name,
        num_classes=len(class_names),
        channels=images_nCHW.shape[1],
        image_size=images_nCHW.shape[2],
        mean=tuple(round(value, 4) for value in pixels.mean(dim=(0, 2, 3)).tolist()),
        std=tuple(round(max(value, 1e-3), 4) for value in pixels.std(dim=(0, 2, 3)).tolist()),
        class_names=class_names,
    )
