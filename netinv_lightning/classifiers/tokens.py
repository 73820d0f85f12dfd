"""Tokens of a transformer: the inputs [B, T, D] of its normalisation layers.

In a transformer that normalises before each layer these are the tokens between its layers.

Shape suffixes: B batch, T tokens, D width of a token.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from netinv_lightning.classifiers.forward_count import uncounted
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.probing import PROBED, random_images

NORMS = (nn.LayerNorm, nn.RMSNorm)


@torch.no_grad()
def token_layers(classifier: FrozenClassifier) -> list[str]:
    """Return the names of the normalisation layers whose input is [B, T, D] with T >= 2."""
    network = classifier.network
    if isinstance(network, torch.jit.ScriptModule):
        return []
    norms = [
        (name, module) for name, module in network.named_modules() if isinstance(module, NORMS)
    ]
    shapes: dict[nn.Module, torch.Size] = {}
    handles = [
        module.register_forward_pre_hook(
            lambda module, inputs: shapes.update({module: inputs[0].shape})
        )
        for _, module in norms
    ]
    if handles:
        with uncounted(classifier):
            classifier(random_images(classifier.spec, PROBED).to(classifier.mean_C11.device))
    for handle in handles:
        handle.remove()
    return [name for name, module in norms if _has_tokens(shapes.get(module))]


def _has_tokens(shape: torch.Size | None) -> bool:
    return shape is not None and len(shape) == 3 and shape[0] == PROBED and shape[1] > 1


def record_tokens(classifier: FrozenClassifier) -> list[str]:
    """Add hooks so that `classifier.trace` also returns the tokens; return the layers' names."""
    layers = token_layers(classifier)
    for name in layers:
        hook = partial(classifier.recorder.token_input, name)
        classifier.network.get_submodule(name).register_forward_pre_hook(hook)
    return layers
