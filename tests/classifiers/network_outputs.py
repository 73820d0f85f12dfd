"""Networks whose output is whatever a function makes of their logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError

N = 4


def spec(num_classes: int = N) -> DataSpec:
    return DataSpec("own", num_classes, 1, 28, (0.2,), (0.4,), tuple(map(str, range(num_classes))))


class Network(nn.Module):
    """Network of two layers; `finish` makes its output from features and logits."""

    def __init__(
        self, finish: Callable[[Tensor, Tensor], Any] = lambda f, z: z, classes: int = N
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.linear, self.finish = (
            nn.Conv2d(1, 6, 5, 3),
            nn.Linear(6, classes),
            finish,
        )
        nn.init.normal_(self.linear.weight, std=8)

    def forward(self, x: Tensor) -> Any:
        f = self.convolution(x).relu().mean((2, 3))
        return self.finish(f, self.linear(f))


def refusal(network: nn.Module, classes: int = N, **keys: Any) -> str:
    with pytest.raises(InputError) as caught:
        FrozenClassifier(network, spec(classes), **keys).check_gradient()
    assert str(caught.value).startswith("classifier")
    assert "\n" not in str(caught.value)
    return str(caught.value)
