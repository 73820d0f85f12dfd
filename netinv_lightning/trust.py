"""Which code a file from outside may name: a card or a run directory may come from somebody else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from netinv_lightning.errors import InputError

NETWORKS = re.compile(r"netinv_lightning\.classifiers\.networks\.(CNN|MLP|ResNet|ViT)|torchvision\.models\.\w+|timm\.create_model")
"""Whole names, not beginnings: through a module's own imports a beginning would let anything in."""


def check_targets(node: Any, where: str, trusted: Sequence[str] = ()) -> None:
    """Refuses every `_target_` that is not one of `NETWORKS`.

    Args:
        node: The content of the file, as plain containers.
        where: What it is, for the message.
        trusted: Beginnings of further names that the user trusts.

    Raises:
        InputError: naming the key and the target.
    """
    for key, target in _targets(node):
        if not NETWORKS.fullmatch(target) and not target.startswith(tuple(trusted)):
            raise InputError(
                f"{where}: {key}={target} is outside the allow-list (networks of netinv_lightning, torchvision and timm); "
                f"if you trust it, name it yourself: +{key}={target}, or load_run(..., trusted=[...])"
            )


def _targets(node: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "_target_":
                yield f"{prefix}_target_", str(value)
            else:
                yield from _targets(value, f"{prefix}{key}.")
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value, prefix)
