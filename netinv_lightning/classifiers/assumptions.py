"""What is assumed about a classifier that its user did not set, in printed lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.specs import UNITS
from netinv_lightning.runs.notices import notice


def print_assumptions(classifier: FrozenClassifier, source: str, given: bool) -> FrozenClassifier:
    """Print what is assumed about the network's output and, unless it is given, normalisation.

    Args:
        classifier: The classifier; `source` is stored in it for the record of the run.
        source: Where mean and standard deviation come from; empty if they are unknown.
        given: Whether the user set both.
    """
    classifier.normalisation_source = source or "none"
    notice(classifier.output.describe(classifier.name))
    if not given:
        notice(classifier.describe_normalisation())
    return classifier


def print_inferred(path: Path, facts: dict[str, Any], source: str) -> None:
    """Print the classes and the shape that were read from a file."""
    if found := [f"{facts[key]} {unit}" for key, unit in UNITS.items() if key in facts]:
        notice(f"classifier.path={path}: {', '.join(found)} (from {source})")
