"""Refuse numbers of images that do not fit into memory, before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

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
"""The same, if `measure.full` or `interpret.full` is set."""
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
    channels, side = shape
    memory, image = memory_bytes(), channels * side**2 * BYTES
    for key, count in _counts(cfg):
        if count * image > memory:
            raise InputError(
                f"{key}={count}: {count:,} images of {channels} x {side} x {side} pixels take "
                f"{count * image / 1e9:,.1f} GB, this machine has {memory / 1e9:,.1f} GB; set "
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


def _shape(cfg: DictConfig, card: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return channels and side of the images, from config, card or data set; None if unknown."""
    spec, data = SPECS.get(cfg.data.name), card.get("data")
    known = data if isinstance(data, Mapping) else vars(spec) if spec is not None else {}
    channels, side = (cfg.classifier[key] or known.get(key) for key in ("channels", "image_size"))
    return (channels, side) if isinstance(channels, int) and isinstance(side, int) else None
