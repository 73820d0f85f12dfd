"""Shadow networks: many small networks trained at once, each on its own half of some images.

All networks have the same architecture. Their weights are stacked, and one pass of
`torch.func.vmap` computes all of them. The training is that of `application=train_classifier`:
cross-entropy, the same optimiser, one-cycle learning rate and augmentation.

Shape suffixes: S shadow networks, P images of the pool, m images, B batch, C channels, H height, W
width, N classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from netinv_lightning.classifiers.log_odds import log_odds
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.data.augmentation import shift_and_flip
from netinv_lightning.privacy.stacked_training import StackRecipe, stacked_optimizer
from netinv_lightning.training.gradient_steps import train_steps
from netinv_lightning.training.schedules import one_cycle
from netinv_lightning.training.seeds import own_randomness, random_order

CHUNK = 250
"""Images per pass of all networks when they are evaluated."""


class ShadowNetworks:
    """Networks of one architecture with stacked weights.

    Args:
        networks: Untrained networks; the first one is changed.
    """

    def __init__(self, networks: Sequence[Classifier]) -> None:
        self.parameters, self.buffers = stack_module_state(list(networks))  # type: ignore[arg-type]
        self.matrices = {name for name, p in networks[0].named_parameters() if p.ndim > 1}
        self.base = networks[0]

    @staticmethod
    def steps(recipe: StackRecipe, images: int) -> int:
        """Return the steps of the training of networks with so many images each."""
        return images // min(recipe.batch_size, images) * recipe.epochs

    def train(
        self,
        x_PCHW: Tensor,
        label_P: Tensor,
        included_SP: Tensor,
        recipe: StackRecipe,
        *,
        seed: int,
        on_step: Callable[[int, float], None] | None = None,
    ) -> None:
        """Train each network on the images that it includes, as many for each.

        Args:
            x_PCHW: Images in [0, 1].
            label_P: Their classes.
            included_SP: Whether each network is trained on each image.
            recipe: The training.
            seed: Seed of batches, augmentation and dropout.
            on_step: Called after each step with its number and the mean loss of the networks.
        """
        self.base.train().requires_grad_(True)
        own = torch.stack([chosen_P.nonzero().flatten() for chosen_P in included_SP])
        S, n = own.shape
        B = min(recipe.batch_size, n)
        per_epoch, steps = n // B, self.steps(recipe, n)
        optimizer = stacked_optimizer(self.parameters, self.matrices, recipe)
        order_Sn = own

        def loss_of(step: int) -> Tensor:
            nonlocal order_Sn
            batch = step % per_epoch
            if batch == 0:
                order_Sn = own.gather(1, torch.rand(S, n).argsort(dim=1))
            index_SB = order_Sn[:, batch * B : (batch + 1) * B]
            x_XCHW = shift_and_flip(x_PCHW[index_SB.flatten()], recipe.shift, recipe.flip)
            logits_SBN = self._logits(x_XCHW.unflatten(0, (S, B)), 0)
            loss = S * F.cross_entropy(
                logits_SBN.flatten(0, 1),
                label_P[index_SB.flatten()],
                label_smoothing=recipe.label_smoothing,
            )
            if recipe.l1:
                matrices = (self.parameters[name] for name in self.matrices)
                loss = loss + recipe.l1 * sum(weight.abs().sum() for weight in matrices)
            return loss

        with own_randomness(seed, torch.device("cpu")):
            train_steps(
                loss_of,
                optimizer,
                one_cycle(optimizer, recipe.lr, steps, recipe.warmup),
                steps,
                on_step=lambda step, loss: on_step(step, loss / S) if on_step else None,
            )

    @torch.no_grad()
    def log_odds(self, x_mCHW: Tensor, label_m: Tensor) -> Tensor:
        """Return log(p / (1 - p)) of each image's class by each network, [S, m]."""
        self.base.eval()
        parts = [
            log_odds(self._logits(x_BCHW, None).double(), label_B)
            for x_BCHW, label_B in zip(x_mCHW.split(CHUNK), label_m.split(CHUNK), strict=True)
        ]
        return torch.cat(parts, dim=1)

    def _logits(self, x: Tensor, dimension: int | None) -> Tensor:
        """Return the logits of all networks, each for its own images or all for the same."""

        def of_one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
            logits_BN: Tensor = functional_call(self.base, (parameters, buffers), (x,))
            return logits_BN

        run = vmap(of_one, in_dims=(0, 0, dimension), randomness="different")
        logits_SBN: Tensor = run(self.parameters, self.buffers, x)
        return logits_SBN


def paired_halves(shadows: int, images: int, seed: int) -> Tensor:
    """Return which images each network includes, [S, P]: the halves of random splits, in pairs.

    Each image is included by exactly one network of each pair. With an odd number of images, one
    image is left out by both.

    Args:
        shadows: S, even.
        images: P.
        seed: Seed of the splits.
    """
    included_SP = torch.zeros(shadows, images, dtype=torch.bool)
    half = images // 2
    for pair in range(shadows // 2):
        order = random_order(images, seed + pair)
        included_SP[2 * pair, order[:half]] = True
        included_SP[2 * pair + 1, order[half : 2 * half]] = True
    return included_SP
