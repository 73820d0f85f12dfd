"""Images that stay in their file: selections are lists of row numbers until they are computed with.

Shape suffixes: n images, k selected images, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Read = Callable[[np.ndarray], Tensor]
"""Reads the images of some row numbers [k], uint8 [k, C, H, W]."""


class ImagesOnDisk(Tensor):
    """A uint8 tensor [n, C, H, W] whose images are read from a file when they are needed.

    Indexing, slicing and splitting along the first dimension, and `torch.cat`, read nothing and
    return another such tensor. Every other operation first reads all images of this tensor, as
    `load` does, and returns an ordinary tensor.

    Args:
        parts: The files: a function that reads images of one, and its number of images. Row numbers
            count through all parts.
        row_n: The row number of each image, int64 [n].
        image_shape: (C, H, W).
    """

    parts: Sequence[tuple[Read, int]]
    row_n: Tensor

    @staticmethod
    def __new__(
        cls, parts: Sequence[tuple[Read, int]], row_n: Tensor, image_shape: Sequence[int]
    ) -> ImagesOnDisk:
        images: ImagesOnDisk = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, (len(row_n), *image_shape), dtype=torch.uint8
        )
        images.parts, images.row_n = parts, row_n
        return images

    def __init__(self, *args: object) -> None:
        pass

    def load(self) -> Tensor:
        """Read all images of this tensor, uint8 [n, C, H, W]."""
        if len(self.parts) == 1:
            return self.parts[0][0](self.row_n.numpy())
        images_nCHW, start = torch.empty(self.shape, dtype=torch.uint8), 0
        for read, count in self.parts:
            of_part_n = (self.row_n >= start) & (self.row_n < start + count)
            if of_part_n.any():
                images_nCHW[of_part_n] = read((self.row_n[of_part_n] - start).numpy())
            start += count
        return images_nCHW

    def __repr__(self, **_: object) -> str:
        return f"ImagesOnDisk(shape={tuple(self.shape)})"

    @classmethod
    def __torch_dispatch__(
        cls,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        select = SELECTIONS.get(func)
        selected = None if select is None or kwargs else select(*args)
        if selected is not None:
            return selected
        loaded_args, loaded_kwargs = pytree.tree_map(loaded, (args, dict(kwargs or {})))
        return func(*loaded_args, **loaded_kwargs)


def loaded(value: Any) -> Any:
    """Return images on disk as an ordinary tensor; return anything else as it is."""
    return value.load() if isinstance(value, ImagesOnDisk) else value


def _rows(images: ImagesOnDisk, row_k: Tensor) -> ImagesOnDisk:
    return ImagesOnDisk(images.parts, row_k, images.shape[1:])


def _index(images: Any, indices: Sequence[Tensor | None]) -> ImagesOnDisk | None:
    """Select images by one tensor of row numbers, or by one mask."""
    first, *others = indices
    if (
        not isinstance(images, ImagesOnDisk)
        or first is None
        or first.dim() != 1
        or any(other is not None for other in others)
    ):
        return None
    return _rows(images, images.row_n[first.cpu()])


def _slice(
    images: ImagesOnDisk,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> ImagesOnDisk | None:
    return _rows(images, images.row_n[start:end:step]) if dim == 0 else None


def _split(images: ImagesOnDisk, size: int, dim: int = 0) -> list[ImagesOnDisk] | None:
    return [_rows(images, row_k) for row_k in images.row_n.split(size)] if dim == 0 else None


def _image(images: ImagesOnDisk, dim: int, index: int) -> Tensor | None:
    return _rows(images, images.row_n[index].reshape(1)).load()[0] if dim == 0 else None


def _join(tensors: Sequence[Tensor], dim: int = 0) -> ImagesOnDisk | None:
    """Join images on disk with each other, or with images in memory."""
    if dim != 0 or any(tensor.dtype != torch.uint8 for tensor in tensors):
        return None
    parts: list[tuple[Read, int]] = []
    rows: list[Tensor] = []
    for tensor in tensors:
        start = sum(count for _, count in parts)
        if isinstance(tensor, ImagesOnDisk):
            parts += tensor.parts
            rows.append(start + tensor.row_n)
        else:
            parts.append((_reader(tensor), len(tensor)))
            rows.append(start + torch.arange(len(tensor)))
    return ImagesOnDisk(parts, torch.cat(rows), tensors[0].shape[1:])


def _reader(images_nCHW: Tensor) -> Read:
    return lambda index_k: images_nCHW[torch.from_numpy(index_k)]


aten = torch.ops.aten
SELECTIONS: dict[Any, Callable[..., Any]] = {
    aten.index.Tensor: _index,
    aten.slice.Tensor: _slice,
    aten.split.Tensor: _split,
    aten.select.int: _image,
    aten.cat.default: _join,
}
"""Operations that read nothing, or one image; each returns None if its arguments need all."""
