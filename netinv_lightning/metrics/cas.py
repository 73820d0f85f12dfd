"""Classification accuracy score: accuracy of a new classifier trained on generated images alone.

Ravuri and Vinyals (2019, arXiv 1905.10887).

Shape suffixes: B batch, n generated images, m real images, C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from netinv_lightning.training.gradient_steps import train_steps
from netinv_lightning.training.memory_format import in_channels_last
from netinv_lightning.training.schedules import one_cycle
from netinv_lightning.training.seeds import own_randomness

BATCH = 100
STEPS = 300
EPOCHS = 20
LR = 6e-3
WEIGHT_DECAY = 0.05
WARM_UP_SHARE = 0.25
"""Share of the steps in which the learning rate rises."""


class ClassificationAccuracyScore(Metric):
    """Accuracy on real images of a network trained only on generated images and their labels.

    Training uses AdamW with a one-cycle learning rate, 300 steps of 100 images, and no image more
    than 20 times. The same seed and images train the same network. Under DDP each process trains
    the same one.

    Args:
        make_network: Creates the untrained network, which maps images in [0, 1] to logits; called
            with torch's global random stream seeded.
        images_mCHW: Real images for evaluation, in [0, 1].
        label_m: Their labels.
        seed: Seed of initial weights, batches and dropout.
    """

    full_state_update = False
    images_mCHW: Tensor
    label_m: Tensor
    images: list[Tensor]
    labels: list[Tensor]

    def __init__(
        self,
        make_network: Callable[[], nn.Module],
        images_mCHW: Tensor,
        label_m: Tensor,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.make_network, self.seed = make_network, seed
        self.register_buffer("images_mCHW", images_mCHW, persistent=False)
        self.register_buffer("label_m", label_m, persistent=False)
        self.add_state("images", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, x_BCHW: Tensor, label_B: Tensor) -> None:
        """Add generated images in [0, 1] and the labels that they were generated for."""
        self.images.append(x_BCHW)
        self.labels.append(label_B)

    def compute(self) -> Tensor:
        x_nCHW, label_n = dim_zero_cat(self.images), dim_zero_cat(self.labels)
        device = x_nCHW.device
        with own_randomness(self.seed, device), torch.enable_grad():
            network = in_channels_last(self.make_network().to(device))
            _train(network, x_nCHW, label_n)
        network.eval()
        with torch.no_grad():
            predicted = [network(x_BCHW).argmax(dim=1) for x_BCHW in self.images_mCHW.split(BATCH)]
        return (torch.cat(predicted) == self.label_m).double().mean()


def _train(network: nn.Module, x_nCHW: Tensor, label_n: Tensor) -> None:
    n = len(label_n)
    batch = min(BATCH, n)
    steps = min(STEPS, EPOCHS * (n // batch))
    optimizer = torch.optim.AdamW(network.parameters(), LR, weight_decay=WEIGHT_DECAY)
    schedule = one_cycle(optimizer, LR, steps, WARM_UP_SHARE)
    epochs = math.ceil(steps / (n // batch))
    order = torch.cat([torch.randperm(n)[: n // batch * batch] for _ in range(epochs)])
    batches = order.to(x_nCHW.device).split(batch)

    def compute_loss(step: int) -> Tensor:
        return F.cross_entropy(network(x_nCHW[batches[step]]), label_n[batches[step]])

    train_steps(compute_loss, optimizer, schedule, steps)
