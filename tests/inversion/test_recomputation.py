"""`application.recompute`: less memory in the classifier, the same gradients.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from netinv_lightning.applications.key_check import check_keys
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.recomputation import recompute_activations
from tests.inversion.test_micro_batches import (
    EVERY_TERM,
    SPEC,
    double_precision,
    step_of,
)

__all__ = ["double_precision"]

TERMS = {name: of for name, of in EVERY_TERM.items() if name not in ("gradient", "stationarity")}


class Block(nn.Module):
    """A convolution with BatchNorm that may change its input in place."""

    def __init__(self, channels: int, width: int, in_place: bool = False) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(channels, width, 3, 2), nn.BatchNorm2d(width)
        self.in_place = in_place

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if self.in_place:
            x_BCHW.data.add_(1)
        return self.norm(self.convolution(x_BCHW)).tanh()


def classifier_of_blocks(in_place: bool = False) -> FrozenClassifier:
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Sequential(Block(1, 4), Block(4, 5, in_place)), nn.Flatten(), nn.Linear(180, 4)
    )
    for name, buffer in network.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1)
    return FrozenClassifier(network, SPEC, ("penultimate", "0.1"))


@pytest.mark.parametrize("micro_batch", [None, 3])
def test_losses_and_gradients_are_the_same(micro_batch: int | None) -> None:
    classifier = classifier_of_blocks()
    loss, values_GV, gradients = step_of(None, TERMS, classifier)
    recomputing = copy.deepcopy(classifier)
    recompute_activations(recomputing)
    calls = []
    recomputing.network[0][1].convolution.register_forward_hook(lambda *_: calls.append(1))
    again, again_GV, again_gradients = step_of(
        micro_batch, {"ce": {"weight": 1.0}, "batch_norm": {"weight": 1.0}}, recomputing
    )
    assert len(calls) == (4 if micro_batch is None else 18)  # 2 or 3 per part of a generator
    again, again_GV, again_gradients = step_of(micro_batch, TERMS, recomputing)
    torch.testing.assert_close(again, loss, rtol=1e-11, atol=0)
    torch.testing.assert_close(again_GV, values_GV, rtol=1e-9, atol=1e-12)
    for name, gradient in gradients.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(again_gradients[name], gradient, rtol=1e-8, atol=1e-11, msg=name)


def test_activations_inside_blocks_are_not_kept() -> None:
    classifier = classifier_of_blocks()
    x_BCHW = torch.rand(5, 1, 28, 28).requires_grad_()

    def kept(of: FrozenClassifier) -> int:
        sizes: dict[int, int] = {}

        def pack(x: Tensor) -> Tensor:
            sizes[x.untyped_storage().data_ptr()] = x.numel() * (x.shape[:1] == (5,))
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            outputs = of.trace(x_BCHW)
        del outputs
        return sum(sizes.values())

    before = kept(classifier)
    recompute_activations(classifier)
    assert kept(classifier) < 0.7 * before  # the inputs of the two blocks, and of the head


def test_networks_that_it_does_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="recompute=true: Sequential gives other gradients if its"):
        recompute_activations(classifier_of_blocks(in_place=True))
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(1352, 4))
    with pytest.raises(InputError, match="recompute=true: Sequential has no blocks"):
        recompute_activations(FrozenClassifier(network, SPEC))


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["loss=reconstruction"], "loss.gradient"),
        (["method=kkt"], "method=kkt"),
        (["application.compile=true"], "application.compile=true"),
    ],
)
def test_choices_that_exclude_it_are_named(
    overrides: list[str], named: str, compose: Callable[..., DictConfig]
) -> None:
    with pytest.raises(InputError, match=f"recompute=true: cannot be combined with {named}. Set"):
        check_keys(compose("application.recompute=true", *overrides))
