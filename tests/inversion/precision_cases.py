"""Images, autocast and small classifiers that vmap cannot run, for tests of mixed precision."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from netinv_lightning.data.specs import DataSpec

SPEC = DataSpec("made_up", 10, 1, 28, (0.1,), (0.3,), tuple("abcdefghij"))


def bfloat16(enabled: bool = True) -> AbstractContextManager[object]:
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled)


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


class ConvNet(nn.Module):
    """Convolution, pooling and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.linear = nn.Conv2d(1, 4, 3, 2), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.convolution(x).relu().mean((2, 3)))  # type: ignore[no-any-return]


class Branching(ConvNet):
    """Network with a branch that depends on the mean of a layer."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.convolution(x)
        h = h * 1.1 if h.mean() > 0 else h
        return self.linear(h.relu().mean((2, 3)))  # type: ignore[no-any-return]


def rrelu() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3, 4), nn.RReLU(), nn.Flatten(), nn.Linear(4 * 49, 10))


def batch_statistics() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 8),
        nn.BatchNorm1d(8, track_running_stats=False),
        nn.ReLU(),
        nn.Linear(8, 10),
    )


def batch_norm_mlp() -> nn.Module:
    layers = [
        layer
        for a, b in ((784, 16), (16, 24))
        for layer in (nn.Linear(a, b), nn.BatchNorm1d(b), nn.LeakyReLU(0.2))
    ]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(24, 10))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "branching": Branching,
    "RReLU": rrelu,
    "batch statistics": batch_statistics,
    "BatchNorm MLP": batch_norm_mlp,
}


def network(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NETWORKS[name]().eval()
