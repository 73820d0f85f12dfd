"""Methods that optimise a batch of images at a time when it is drawn.

Shape suffixes: B batch, C channels, H height, W width, V values of a step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from netinv_lightning.inversion.conditioning import Condition
from netinv_lightning.inversion.cost import CostMeter
from netinv_lightning.inversion.methods.descent import DescentInversion


class BatchwiseInversion(DescentInversion):
    """Base of the methods that optimise the images of a batch together.

    Drawn images are stored, so that the same conditions under the same random state are not
    optimised again. A method defines `_optimise`. The arguments are those of `DescentInversion`.
    """

    smallest_batch = 1
    """Fewest images that are optimised together; more than 1 if the objective compares images."""

    reads_targets = True
    """Whether images depend on the targets; if not, equal labels get the stored images."""

    def __init__(self, *parts: Any, **keys: Any) -> None:
        super().__init__(*parts, **keys)
        self._drawn: dict[tuple[int, bytes, bytes], Tensor] = {}

    def draw(self, condition: Condition, g: int = 0) -> Tensor:
        # Torch's random state advances in the same way if the images are stored already.
        seed = int(torch.randint(2**62, ()))
        key = (
            seed,
            condition.label_B.cpu().numpy().tobytes(),
            condition.target_BN.cpu().numpy().tobytes() if self.reads_targets else b"",
        )
        if key not in self._drawn:
            B, meter = len(condition.label_B), CostMeter(self.classifier.forward_count)
            several = condition if self.smallest_batch <= B else _twice(condition)
            x_BCHW = self._optimise(several, seed, meter)[:B]
            self._drawn[key] = x_BCHW
            self._add_cost(len(x_BCHW), meter)
        return self._drawn[key]

    def _start_recording(self, images: int, meter: CostMeter) -> Callable[[int, Tensor], None]:
        """Return a function that a method without `Descent` calls in each step of the next batch.

        It takes the step and the values [V] to log, of which the last is the accuracy. `cost` uses
        those of the first batch.

        Args:
            images: Images of the batch.
            meter: Measures its cost.
        """
        self.batches += 1
        first = self.batches == 1
        accuracies, step_seconds = (self.accuracies, self.step_seconds) if first else ([], [])
        recent: list[Tensor] = []

        def record(step: int, values_V: Tensor) -> None:
            recent.append(values_V.cpu())
            accuracies.append(float(values_V[-1]))
            step_seconds.append(meter.seconds)
            if step % self.log_every == 0 or step == self.steps:
                self._report(step, torch.stack(recent), images)
                recent.clear()

        return record

    def _optimise(self, condition: Condition, seed: int, meter: CostMeter) -> Tensor:
        """Return the images [B, C, H, W] of a batch, optimised from random numbers of `seed`."""
        raise NotImplementedError


def _twice(condition: Condition) -> Condition:
    """Return the conditions two times, for terms that compare images."""
    vector_BN, matrix_BMSS = condition.vector_BN, condition.matrix_BMSS
    place_B = condition.place_B
    return replace(
        condition,
        place_B=None if place_B is None else place_B.repeat(2),
        label_B=condition.label_B.repeat(2),
        target_BN=condition.target_BN.repeat(2, 1),
        vector_BN=None if vector_BN is None else vector_BN.repeat(2, 1),
        matrix_BMSS=None if matrix_BMSS is None else matrix_BMSS.repeat(2, 1, 1, 1),
    )
