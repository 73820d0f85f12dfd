"""A small network with its weights, and refusals of files."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from netinv_lightning.classifiers.networks import CNN
from netinv_lightning.errors import InputError


def small(seed: int = 0, channels: int = 3, side: int = 32) -> CNN:
    torch.manual_seed(seed)
    network = CNN(10, channels, side, stages=[[4], [4]], hidden=8)
    network(torch.rand(4, channels, side, side))  # updates the statistics of BatchNorm
    return network


def same(network: nn.Module, other: nn.Module) -> bool:
    mine, theirs = network.state_dict(), other.state_dict()
    return list(mine) == list(theirs) and all(
        torch.equal(mine[name], theirs[name]) for name in mine
    )


def refusal(call: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert str(caught.value).startswith("classifier.")
    assert "\n" not in str(caught.value)
    return str(caught.value)
