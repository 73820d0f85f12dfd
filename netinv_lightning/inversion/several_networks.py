"""The term `networks`: several classifiers of the same classes are inverted at once.

Images that one network accepts by chance are rejected by the others, and the BatchNorm statistics
of several networks constrain the images more than those of one. Dong et al. 2018 (arXiv 1710.06081)
attack ensembles for the same reason: what fools several networks transfers to further ones.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.inversion import losses
from netinv_lightning.inversion.micro_batches import trace_in_parts
from netinv_lightning.inversion.preset_terms import batch_norm

if TYPE_CHECKING:
    from netinv_lightning.inversion.terms import Step


def networks(
    step: Step, statistics: float = 1.0, networks: Sequence[FrozenClassifier] = ()
) -> Tensor:
    """Sum of `kl`, `ce` and `batch_norm` over further networks, on the views of the classifier.

    Args:
        step: The training step.
        statistics: Weight of the BatchNorm statistics, relative to `kl` and `ce`; 0 or more.
        networks: The further classifiers, named as verifiers are. They must not be verifiers of the
            run.
    """
    view_BCHW = step.x_BCHW if step.view_BCHW is None else step.view_BCHW
    terms = [step.x_BCHW.new_zeros(())]
    for other in networks:
        network = other.to(view_BCHW.device)
        logits_BN, _, normed = trace_in_parts(network, view_BCHW, step.micro_batch)
        terms.append(losses.kl_divergence(step.condition.target_BN, logits_BN))
        terms.append(losses.cross_entropy(logits_BN, step.condition.label_B))
        if statistics:
            of_network = replace(step, classifier=network, normed=normed)
            terms.append(statistics * batch_norm(of_network))
    return torch.stack(terms).sum()
