"""The keys of `monitor`: stop a training early, and keep its best weights, by a metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional


@dataclass
class MonitorConfig:
    """Stop a training early, and keep its best weights, by a metric of `metrics.csv`.

    It is for the training of generators (`application=invert` and `reconstruct` with
    `method=generator`) and for `application=train_classifier`.

    Attributes:
        metric: Name of the metric, such as `inversion/accuracy_train` or `classifier/val_accuracy`;
            null to train all steps and use the last weights.
        mode: `max` if high values are better, or `min`.
        patience: Number of checks without improvement after which the training stops; null for
            all steps.
        min_delta: Smallest change that counts as an improvement.
        every: Steps between two checks of a generator, at least `application.log_every`. A
            classifier is checked after each validation.
        keep_best: Whether the run uses the weights with the best value, `checkpoints/best.ckpt`,
            instead of the last ones.
    """

    metric: Optional[str] = None
    mode: str = "max"
    patience: Optional[int] = None
    min_delta: float = 0.0
    every: int = 50
    keep_best: bool = False
