"""The keys of a classifier with a garbage class, with their types and defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional


@dataclass
class GarbageConfig:
    """A classifier with a garbage class: one more detector of `application=detect_ood`.

    It has the classes of the frozen classifier and one for garbage, and is trained on real images
    and garbage; each epoch adds garbage images (Suhail, Tang and Sethi 2024, arXiv 2411.17777,
    section 5.2). See `netinv_lightning.ood.garbage`.

    Attributes:
        source: Garbage images that each epoch adds: `inverted` samples, or for comparison `noise`
            or `outliers` (training images of the sets `exposed`).
        start: Initial weights: those of the frozen classifier (`trained`), or new ones (`scratch`).
        epochs: Number of epochs; null for that of the recipe.
        lr: Learning rate; null for that of the recipe.
        label_smoothing: Label smoothing; null for that of the recipe.
        images: Maximum number of training images per epoch; null for all of them. All garbage
            images are always used.
        initial: Number of garbage images of Gaussian noise before the first epoch.
        per_class: Number of garbage images per class that each epoch adds.
        generator: Generator of `source=inverted`: it continues from that of the previous epoch
            (`warm`) or starts from new weights (`fresh`).
        invert_garbage: Whether the garbage class is inverted too.
        zoom: For each garbage image, a random crop is added too, enlarged by a factor from 1 to
            `zoom`. 1 for none.
        distil: Share of the frozen classifier's outputs in the labels, from 0 to 1.
        balanced: Classes that the loss weights by their counts: `all` (as in the paper) or
            `garbage` alone.
        weight: Weight of the garbage class relative to another class.
        batch_norm: Statistics of BatchNorm in training: those of the batch (`batch`), or the
            unchanged running statistics of the frozen classifier (`kept`).
        steps: Training steps of a new generator.
        warm_steps: Training steps of a generator that continues from the previous epoch.
        inversion: Overrides of the config of the inversion.
        exposed: Names of the sets for `source=outliers`.
        score: OOD score: the `odds` of garbage; `odds_and_energy`, which adds the energy of the
            other classes; or `uncertainty` of the prediction, highest for certain garbage (Suhail
            et al. 2025, arXiv 2505.23448).
    """

    source: str = "inverted"
    start: str = "trained"
    epochs: Optional[int] = None
    lr: Optional[float] = None
    label_smoothing: Optional[float] = None
    images: Optional[int] = None
    initial: int = 1000
    per_class: int = 100
    generator: str = "warm"
    invert_garbage: bool = False
    zoom: float = 1.0
    distil: float = 0.0
    balanced: str = "all"
    weight: float = 1.0
    batch_norm: str = "batch"
    steps: int = 200
    warm_steps: int = 60
    inversion: list[str] = field(default_factory=list)
    exposed: list[str] = field(default_factory=list)
    score: str = "odds"
