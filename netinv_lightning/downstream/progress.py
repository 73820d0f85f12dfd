"""How a training on inverted images tells where it stands."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from lightning.pytorch.loggers import Logger

from netinv_lightning.training.progress import EVERY_SECONDS, tell

LOG_EVERY = 10


def teller(
    told: str, steps: int, loggers: Sequence[Logger], metric: str
) -> Callable[[int, float], None]:
    """What is told each step and its loss: it logs every tenth as `metric`, and prints a line every ten seconds."""
    last = time.monotonic()

    def teller(step: int, loss: float) -> None:
        nonlocal last
        if step % LOG_EVERY == 0:
            for logger in loggers:
                logger.log_metrics({metric: loss}, step=step)
        if step == steps or time.monotonic() - last >= EVERY_SECONDS:
            last = time.monotonic()
            tell(f"{told}  step {step}/{steps}  loss {loss:.4f}")

    return teller
