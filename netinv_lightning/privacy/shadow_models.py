"""Train many copies of a network at once that differ in one training image only.

    initial weights, known images, order of the batches: the same for all
    weights_s = training(known images and image s),   s = 1 to S

The copies are trained as one stack of weights (`torch.func.vmap`), so that a step of all of them
takes a few matrix products. All elements of a stack have their own moments in the optimiser, so
each copy is trained as if it were alone.

Shape suffixes: n known images, S networks, B batch, P parameters of a network, C channels, H
height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, grad, vmap

from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.privacy.stacked_training import StackRecipe, stacked_optimizer
from netinv_lightning.training.schedules import one_cycle
from netinv_lightning.training.seeds import own_randomness

Weights = dict[str, Tensor]
"""The parameters of a network by name; in a stack, each has a first axis of S networks."""


def image_loss(
    classifier: Classifier, weights: Weights, images: Images, smoothing: float
) -> Tensor:
    """Return the sum of the cross-entropies of some images."""
    logits_BN = functional_call(classifier, weights, (images.images_nCHW,))
    return F.cross_entropy(logits_BN, images.labels_n, reduction="sum", label_smoothing=smoothing)


def train_together(
    classifier: Classifier, known: Images, own: Images, recipe: StackRecipe, seed: int
) -> Tensor:
    """Train one network per image of `own`, on the known images and that one.

    Args:
        classifier: Has the initial weights of every network, which are not changed, and the
            training mode.
        known: The training images that all networks share, in [0, 1].
        own: One further training image for each of S networks.
        recipe: How they are trained.
        seed: Seed of the order of the batches and of dropout.

    Returns:
        The trained weights [S, P], each row in the order of `classifier.named_parameters()`.
    """
    start, S, n = dict(classifier.named_parameters()), len(own.labels_n), len(known.labels_n)
    stack = {
        name: weight.detach().expand(S, *weight.shape).clone() for name, weight in start.items()
    }
    matrices = {name for name, weight in start.items() if weight.ndim > 1}
    optimizer = stacked_optimizer(stack, matrices, recipe)
    orders = list(_batches(n + 1, recipe, seed))
    schedule = one_cycle(optimizer, recipe.lr, len(orders), recipe.warmup)

    def loss(weights: Weights, x_CHW: Tensor, label: Tensor, index_B: Tensor) -> Tensor:
        known_B = index_B[index_B < n]
        total = torch.zeros((), device=x_CHW.device)
        if len(known_B):
            batch = Images(known.images_nCHW[known_B], known.labels_n[known_B])
            total = total + image_loss(classifier, weights, batch, recipe.label_smoothing)
        if len(known_B) < len(index_B):
            own_image = Images(x_CHW[None], label[None])
            total = total + image_loss(classifier, weights, own_image, recipe.label_smoothing)
        return total / len(index_B)

    gradients = vmap(grad(loss), in_dims=(0, 0, 0, None), randomness="same")
    with own_randomness(seed, own.images_nCHW.device):
        for index_B in orders:
            index_B = index_B.to(own.images_nCHW.device)
            found = gradients(stack, own.images_nCHW, own.labels_n, index_B)
            for name, weight in stack.items():
                weight.grad = found[name]
            optimizer.step()
            schedule.step()
    return torch.cat([weight.flatten(1) for weight in stack.values()], dim=1)


def _batches(images: int, recipe: StackRecipe, seed: int) -> Iterator[Tensor]:
    """Yield the indices of each batch; the last image is the own one of each network."""
    source = torch.Generator().manual_seed(seed)
    for _ in range(recipe.epochs):
        yield from torch.randperm(images, generator=source).split(recipe.batch_size)


def unstacked(classifier: Classifier, weights_P: Tensor) -> Weights:
    """Return the parameters of one row of `train_together` by name."""
    named = dict(classifier.named_parameters())
    parts = weights_P.split([weight.numel() for weight in named.values()])
    return {
        name: part.view_as(weight)
        for (name, weight), part in zip(named.items(), parts, strict=True)
    }


def parameters(classifier: Classifier) -> int:
    """Return the number of parameters P."""
    return sum(weight.numel() for weight in classifier.parameters())
