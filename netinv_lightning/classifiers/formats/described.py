"""Read a file or folder that contains both a network and a description of its images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from torch import nn

from netinv_lightning.classifiers.formats import recognise

READERS = {
    recognise.EXPORTED: "netinv_lightning.classifiers.formats.exported:read_exported",
    recognise.ONNX: "netinv_lightning.classifiers.formats.onnx_file:read_onnx",
    recognise.HUGGING_FACE: "netinv_lightning.classifiers.formats.hf_folder:read_folder",
}
"""The function that reads each format, by the name of the format in `recognise`."""


@dataclass(frozen=True)
class Described:
    """A network and the properties of its images.

    Attributes:
        network: The network in evaluation mode.
        facts: The values of `num_classes`, `channels`, `image_size`, `mean`, `std`, `class_names`
            and `output_kind`, without those that the file does not contain.
        source: What `facts` were read from, for messages.
    """

    network: nn.Module
    facts: dict[str, Any] = field(default_factory=dict)
    source: str = ""


def read_described(path: Path) -> Described:
    """Read a file or folder that describes its own network. No code of it is executed.

    Raises:
        InputError: if it is damaged, needs an extra that is not installed, or would run code.
    """
    kind = recognise.format_of(path)
    assert kind is not None
    reader: Callable[[Path], Described] = resolve_name(READERS[kind])
    return reader(path)


def square(shape: tuple[Any, ...]) -> dict[str, int]:
    """Return channels and side of images [B, C, H, W]; leave out dynamic or unequal sizes."""
    if len(shape) != 4:
        return {}
    sizes = dict(zip(("channels", "image_size"), (shape[1], shape[2]), strict=True))
    if shape[2] != shape[3]:
        del sizes["image_size"]
    return {key: size for key, size in sizes.items() if isinstance(size, int)}
