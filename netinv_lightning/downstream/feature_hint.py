"""Distance of the penultimate features of two networks, a loss of a distillation.

Shape suffixes: B batch, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netinv_lightning.classifiers.penultimate import last_linear
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.training.float32 import in_float32


class FeatureHint(nn.Module):
    """Distance between the features of the teacher and linearly mapped features of the student.

    The map is initialised with ones on its diagonal (the identity if it is square) and discarded
    after the training (Romero et al. 2015, arXiv 1412.6550).

    Args:
        teacher: Network whose features are the target.
        student: Network whose features are mapped.

    Raises:
        ValueError: if a network has no fully connected layer.
    """

    def __init__(self, teacher: Classifier, student: Classifier) -> None:
        super().__init__()
        last = [
            layer
            for network in (teacher, student)
            if (layer := last_linear(network.network)) is not None
        ]
        if len(last) < 2:
            raise ValueError("a network has no fully connected layer")
        self._last = last  # in a list, so that these are not submodules
        self._parts: list[list[Tensor]] = [[], []]
        self.map = nn.Linear(self._last[1].in_features, self._last[0].in_features, bias=False)
        nn.init.eye_(self.map.weight)

    @contextmanager
    def record(self) -> Iterator[None]:
        """Record the features of both networks inside the context, of each part of the batch."""
        self._parts = [[], []]

        def hook_of(which: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                self._parts[which].append(inputs[0])

            return hook

        handles = [
            layer.register_forward_pre_hook(hook_of(which))
            for which, layer in enumerate(self._last)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def distance(self) -> Tensor:
        """Return the mean squared distance of the unit features, 0 to 4."""
        return self._distance(*(torch.cat(parts).flatten(1) for parts in self._parts))

    @in_float32
    def _distance(self, teacher_BD: Tensor, student_BD: Tensor) -> Tensor:
        return (
            (F.normalize(self.map(student_BD), dim=1) - F.normalize(teacher_BD, dim=1))
            .square()
            .sum(dim=1)
            .mean()
        )
