"""A classifier that leaks its training images, and the options of short attacks on it."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import FEW_STEPS

FEW = [step for step in FEW_STEPS if "grid" not in step] + [
    "application.grid_columns=2",
    "application.reconstructions=40",
]


def of(trained: Path) -> list[str]:
    return ["data=mnist5k", "classifier=checkpoint", f"classifier.path={trained}"]
