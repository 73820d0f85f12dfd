"""Input and result of an analysis of features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.config.schema import InterpretConfig


@dataclass(frozen=True)
class StudyInput:
    """Features of images of several origins, and the classifier that computed them.

    Attributes:
        name: Name of the run, for titles.
        class_names: N names.
        options: The config keys `interpret`.
        seed: Seed of all random numbers.
        inverted: Inverted images.
        training: Real training images; None without data.
        test: Real test images; None without data.
        head: Maps features [n, D] to logits [n, N]; differentiable.
        classify: Maps images [n, C, H, W] to logits [n, N]; differentiable.
        maps: Maps images to the activations [n, C, h, w] of the map layer; None if the network has
            no such layer.
        figures: Output directory of the figures.
    """

    name: str
    class_names: tuple[str, ...]
    options: InterpretConfig
    seed: int
    inverted: FeatureSet
    training: FeatureSet | None
    test: FeatureSet | None
    head: Callable[[Tensor], Tensor]
    classify: Callable[[Tensor], Tensor]
    maps: Callable[[Tensor], Tensor] | None
    figures: Path

    @property
    def N(self) -> int:
        return len(self.class_names)

    @property
    def real(self) -> tuple[FeatureSet, FeatureSet] | None:
        """Training and test images, or None without data."""
        return None if self.training is None or self.test is None else (self.training, self.test)


@dataclass
class StudyResult:
    """Results of one analysis.

    Attributes:
        metrics: Values by metric name.
        figures: Paths of the figures, each with a caption.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    figures: list[tuple[Path, str]] = field(default_factory=list)
