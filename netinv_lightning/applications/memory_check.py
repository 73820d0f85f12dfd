"""Refuse numbers of images that do not fit into memory, before anything is computed."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from netinv_lightning.config.shapes import sides_of
from netinv_lightning.data.specs import SPECS
from netinv_lightning.errors import InputError

BYTES = 4
"""Bytes per pixel: generated images are float32."""
HELD = (
    "application.keep_samples",
    "application.reconstructions",
    "application.images",
    "application.samples",
    "method.candidates",
)
"""Keys that set how many images are in memory at once."""
HELD_IF_FULL = ("measure.samples", "interpret.samples")
"""Further such keys, if `measure.full` or `interpret.full` is set."""
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def check_memory(cfg: DictConfig, card: Mapping[str, Any]) -> None:
    """Refuse a number of images whose pixels alone take more than the memory of this machine.

    Args:
        cfg: The config.
        card: The model card of the classifier; empty if it has none.

    Raises:
        InputError: naming the key, and the largest number that fits.
    """
    if (shape := _shape(cfg, card)) is None:
        return
    memory, image = memory_bytes(), math.prod(shape) * BYTES
    for key, count in _counts(cfg):
        if count * image > memory:
            raise InputError(
                f"{key}={count}: {count:,} images of {' x '.join(map(str, shape))} pixels take "
                f"{count * image / 1e9:,.1f} GB, but this machine has {memory / 1e9:,.1f} GB; set "
                f"{memory // image} or less"
            )


def memory_bytes() -> int:
    """Return the memory of this machine, or the limit of its container if that is smaller."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # no container, or one without a limit
        total = min(total, int(CGROUP_LIMIT.read_text()))
    return total


def _counts(cfg: DictConfig) -> Iterator[tuple[str, int]]:
    full = [key for key in HELD_IF_FULL if cfg[key.partition(".")[0]].full]
    for key in (*HELD, *full):
        section, name = key.split(".")
        count = cfg[section].get(name)
        if isinstance(count, int):
            yield key, count


def _shape(cfg: DictConfig, card: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Return the input shape from the config, the card or the data set; None if it is unknown."""
    if cfg.classifier.shape is not None:
        return tuple(cfg.classifier.shape)
    spec, data = SPECS.get(cfg.data.name), card.get("data")
    known = data if isinstance(data, Mapping) else vars(spec) if spec is not None else {}
    channels, size = (
        known.get(key) if cfg.classifier[key] is None else cfg.classifier[key]
        for key in ("channels", "image_size")
    )
    if not isinstance(size, (int, Sequence)) or isinstance(size, str):
        return None
    shape: list[Any] = [channels, *sides_of(size)]
    return tuple(shape) if all(isinstance(side, int) for side in shape) else None
