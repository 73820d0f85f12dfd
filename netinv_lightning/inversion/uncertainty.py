"""Predictive uncertainty of a classifier: by dropout in its layers, or by an ensemble of networks.

    images -> predictions p_1, ..., p_K -> H[mean_k p_k] = epistemic + aleatoric part

Autoinverse (Ansari et al. 2022, NeurIPS) penalises the predictive uncertainty of the inverted
networks, so that inversions stay close to reliable data. Its networks predict a mean and a variance
of numbers; those here are classifiers, whose uncertainty is an entropy. Monte-Carlo dropout is that
of Gal and Ghahramani (2016, arXiv:1506.02142).

Shape suffixes: K predictions, B batch, N classes, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from netinv_lightning.training.distributed import Stream
from netinv_lightning.training.float32 import in_float32
from netinv_lightning.training.seeds import own_randomness

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


@in_float32
def uncertainty(logits_KBN: Tensor, multi_label: bool, epistemic: bool) -> Tensor:
    """Predictive uncertainty of K predictions p_k of each image; mean over the batch.

        predictive = H[mean_k p_k] = epistemic + mean_k H[p_k]

    H is the entropy. The epistemic part is the mutual information of prediction and network; it is
    0 if all predictions agree. The rest, the aleatoric part, is 0 if all predictions are certain.

    Args:
        logits_KBN: Logits of the K predictions.
        multi_label: Sum the entropies of the labels, instead of the entropy over classes.
        epistemic: Return the epistemic part only.
    """
    p_KBN = logits_KBN.sigmoid() if multi_label else logits_KBN.softmax(dim=2)
    total = _entropy(p_KBN.mean(dim=0), multi_label).mean()
    return total - _entropy(p_KBN, multi_label).mean() if epistemic else total


def _entropy(p_BN: Tensor, multi_label: bool) -> Tensor:
    """Return the entropy of each distribution, or of each set of labels, in nats."""
    p_BN = p_BN.clamp(1e-7, 1 - 1e-7)
    each_BN = -p_BN * p_BN.log()
    return (each_BN - (1 - p_BN) * (1 - p_BN).log() if multi_label else each_BN).sum(dim=-1)


def dropout_layers(network: nn.Module) -> list[nn.Module]:
    """Return the layers of a network that drop values in training."""
    return [module for module in network.modules() if isinstance(module, DROPOUTS) and module.p > 0]


def dropout_passes(
    network: nn.Module, passes: int, stream: Stream | None
) -> list[Callable[[Tensor], Tensor]]:
    """Return functions from images to logits [B, N], each a pass with its own dropout.

    Each function drops the same values whenever it is called, as parts of a batch need. All other
    layers stay in evaluation mode.

    Args:
        network: The classifier.
        passes: Number of passes.
        stream: Random numbers; None for torch's global random state.
    """
    draw = float(torch.rand(())) if stream is None else stream.shared_uniform()
    first = int(draw * 2**40)

    def one_pass(number: int) -> Callable[[Tensor], Tensor]:
        def logits(x_BCHW: Tensor) -> Tensor:
            with _dropping(dropout_layers(network)), own_randomness(first + number, x_BCHW.device):
                logits_BN: Tensor = network(x_BCHW)
            return logits_BN

        return logits

    return [one_pass(number) for number in range(passes)]


@contextmanager
def _dropping(layers: Sequence[nn.Module]) -> Iterator[None]:
    for layer in layers:
        layer.train(True)
    try:
        yield
    finally:
        for layer in layers:
            layer.train(False)
