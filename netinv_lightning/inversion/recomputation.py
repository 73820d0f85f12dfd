"""Activation checkpointing of the classifier: memory for one block, the gradients of all.

The activations inside the blocks of the network are dropped in the forward pass, and computed again
when the gradient needs them (Chen et al. 2016, arXiv:1604.06174).

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.probing import probe_outputs, same_up_to_rounding
from netinv_lightning.classifiers.recorder import Recorder
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.channel_moments import moments_of_share
from netinv_lightning.inversion.micro_batches import two_rows
from netinv_lightning.training.float32 import in_float32

KEY = "application.recompute=true"
INSTEAD = "set application.micro_batch instead"
LISTS = (nn.Sequential, nn.ModuleList)


def recompute_activations(classifier: FrozenClassifier) -> None:
    """Let the blocks of a classifier compute their activations again in the backward pass.

    `trace` then returns two rows [2, C] with the mean and the variance of the channels, instead of
    the input of each BatchNorm layer, which would keep the activations. Other results, and the
    gradients, stay the same up to rounding.

    Raises:
        InputError: if the network has no blocks, or gives other gradients in this way.
    """
    found = list(blocks(classifier.network))
    if not found:
        raise InputError(
            f"{KEY}: {classifier.name} has no blocks (modules with layers of their own in an "
            f"nn.Sequential or nn.ModuleList); {INSTEAD}"
        )
    before_BCHW = probe_outputs(classifier)[-1]
    contexts = partial(_contexts, classifier.recorder)
    for block in found:
        block.forward = partial(  # type: ignore[method-assign]
            checkpoint, block.forward, use_reentrant=False, context_fn=contexts
        )
    classifier.recorder.summarise = _mean_and_variance
    try:
        same = same_up_to_rounding(probe_outputs(classifier)[-1], before_BCHW)
    except Exception:  # a block may do something else in its second call
        same = False
    if not same:
        raise InputError(
            f"{KEY}: {classifier.name} gives other gradients if its blocks are called again, for "
            f"example because they change their input in place; {INSTEAD}"
        )


def blocks(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules with layers of their own in each nn.Sequential and nn.ModuleList.

    A list of such modules is no block, and blocks inside a block are not yielded.
    """
    if isinstance(network, torch.jit.ScriptModule):
        return
    for child in network.children():
        if isinstance(network, LISTS) and any(child.children()) and not _lists_blocks(child):
            yield child
        else:
            yield from blocks(child)


def _lists_blocks(module: nn.Module) -> bool:
    composite = any(any(child.children()) for child in module.children())
    return isinstance(module, nn.ModuleList) or (isinstance(module, LISTS) and composite)


def _contexts(
    recorder: Recorder,
) -> tuple[AbstractContextManager[object], AbstractContextManager[object]]:
    """Return the contexts of the first and the second call of a block.

    Both calls must do the same, so hooks record in the second call if they did in the first. What
    they record then is not used.
    """
    return nullcontext(), recorder.recording() if recorder.active else nullcontext()


@in_float32
def _mean_and_variance(x_BC: Tensor) -> Tensor:
    mean_C, var_C = moments_of_share(x_BC)
    return two_rows(mean_C[None], var_C[None], torch.ones(1, device=x_BC.device))
