"""Recipe and optimiser of many networks that are trained at once, with their weights in one stack.

Each network has its own moments in the optimiser, so it is trained as if it were alone. The two
users differ in the images: `shadow_networks` gives each network a half of a pool, `shadow_models`
gives all networks the same batches and one image of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from netinv_lightning.classifiers.classifier_module import make_optimizer


@dataclass(frozen=True)
class StackRecipe:
    """How the attacked classifier was trained: keys of `recipe` and `data`."""

    epochs: int
    batch_size: int
    optimizer: str
    lr: float
    momentum: float
    weight_decay: float
    label_smoothing: float
    warmup: float
    l1: float = 0.0
    shift: int = 0
    flip: bool = False


def stacked_optimizer(
    stack: Mapping[str, Tensor], matrices: set[str], recipe: StackRecipe
) -> torch.optim.Optimizer:
    """Return the optimiser of stacked weights; only matrices and kernels have weight decay.

    Args:
        stack: Stacked weights by name.
        matrices: Names of the weights that are matrices or kernels in one network.
        recipe: The training.
    """
    groups = [
        {
            "params": [weight for name, weight in stack.items() if (name in matrices) == decays],
            "weight_decay": recipe.weight_decay if decays else 0.0,
        }
        for decays in (True, False)
    ]
    return make_optimizer(recipe.optimizer, groups, recipe.lr, recipe.momentum)
