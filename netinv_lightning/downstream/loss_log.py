"""Logging of the loss of a training on inverted images."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from lightning.pytorch.loggers import Logger

from netinv_lightning.training.progress import EVERY_SECONDS, tell

LOG_EVERY = 10


def log_progress(
    label: str, steps: int, loggers: Sequence[Logger], metric: str
) -> Callable[[int, float], None]:
    """Return a function of step and loss: it logs every tenth step and prints every ten seconds."""
    last = time.monotonic()

    def on_step(step: int, loss: float) -> None:
        nonlocal last
        if step % LOG_EVERY == 0:
            for logger in loggers:
                logger.log_metrics({metric: loss}, step=step)
        if step == steps or time.monotonic() - last >= EVERY_SECONDS:
            last = time.monotonic()
            tell(f"{label}  step {step}/{steps}  loss {loss:.4f}")

    return on_step
