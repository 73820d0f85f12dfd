"""What a study looks at, and what it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig
from torch import Tensor

from netinv_lightning.classifiers.features import FeatureSet


@dataclass(frozen=True)
class StudyInput:
    """A classifier's features of images of several origins.

    Attributes:
        name: Of the run, for titles.
        class_names: N names.
        options: The config's `interpret`.
        seed: Of everything that is drawn.
        inverted: Inverted images.
        training: Real training images; None without data.
        test: Real test images; None without data.
        head: From features [n, D] to logits [n, N], differentiable.
        classify: From images [n, C, H, W] to logits [n, N], differentiable.
        maps: The activations [n, C, h, w] of the map layer for images; None where the network has no such layer.
        figures: Where figures go.
    """

    name: str
    class_names: tuple[str, ...]
    options: DictConfig
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
    """What one study found.

    Attributes:
        metrics: By metric name.
        figures: The figures that were drawn, with a caption each.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    figures: list[tuple[Path, str]] = field(default_factory=list)
