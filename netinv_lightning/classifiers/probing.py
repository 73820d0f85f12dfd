"""Test a network when it is loaded: memory format, normalisation, shapes of inputs.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from netinv_lightning.classifiers.forward_count import uncounted
from netinv_lightning.config.shapes import modality_of
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError, one_line

if TYPE_CHECKING:
    from netinv_lightning.classifiers.frozen import FrozenClassifier

PROBED = 5
"""Number of random images on which a network is tested."""
TOLERANCE = 1e-3
"""Largest difference of two results as a share of the largest value; rounding gives less."""


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the network inside wrappers such as DataParallel and those of torch.compile."""
    while True:
        if isinstance(network, (DataParallel, DistributedDataParallel)):
            network = network.module
        elif isinstance(inner := getattr(network, "_orig_mod", None), nn.Module):
            network = inner
        else:
            return network


@torch.no_grad()
def takes_channels_last(network: nn.Module, x_BCHW: Tensor) -> bool:
    """Return whether the network works with channels_last memory, in which `view` fails."""
    saved = [
        (tensor, tensor.data)
        for tensor in (*network.parameters(), *network.buffers())
        if tensor.dim() == 4
    ]
    try:
        for tensor, data in saved:
            tensor.data = data.to(memory_format=torch.channels_last)
        network(x_BCHW.clone(memory_format=torch.channels_last))
    except Exception:
        return False
    finally:
        for tensor, data in saved:
            tensor.data = data
    return True


def gradient_fault(classifier: nn.Module, x_BCHW: Tensor) -> str:
    """Return why no gradient of the logits reaches the inputs; empty if one does."""
    try:
        with torch.enable_grad():
            x_BCHW = x_BCHW.requires_grad_()
            logits_BN = classifier(x_BCHW)
            if not logits_BN.requires_grad:
                return "its output does not depend on them differentiably"
            weight_n = torch.linspace(1, 2, logits_BN.numel(), device=logits_BN.device)
            total = (logits_BN * weight_n.view_as(logits_BN)).sum()
            (gradient_BCHW,) = torch.autograd.grad(total, x_BCHW, allow_unused=True)
            reached = gradient_BCHW is not None and bool(gradient_BCHW.any())
            return "" if reached else "the gradient is zero"
    except Exception as error:  # foreign code may raise anything
        return f"{type(error).__name__}: {one_line(error)[:300]}"


def check_normalisation(spec: DataSpec) -> None:
    """Check that mean, standard deviation, bounds and groups fit the channels.

    Raises:
        InputError: naming the key.
    """
    if not len(spec.mean) == len(spec.std) == spec.channels:
        raise InputError(
            f"classifier.mean={list(spec.mean)}, classifier.std={list(spec.std)}: must have "
            f"{spec.channels} values each, one per channel"
        )
    if min(spec.std) <= 0:
        raise InputError(f"classifier.std={list(spec.std)}: must be above 0")
    if len(spec.limits) != spec.channels or any(not low < high for low, high in spec.limits):
        raise InputError(
            f"classifier.bounds={[list(bound) for bound in spec.bounds]}: must have "
            f"{spec.channels} pairs [lowest, highest], one per channel, the second one larger"
        )
    features = [feature for group in spec.groups for feature in group]
    wrong = any(not 0 <= feature < spec.channels for feature in features)
    if features and (spec.modality != "tables" or wrong or len(set(features)) < len(features)):
        raise InputError(
            f"classifier.groups={[list(group) for group in spec.groups]}: must be lists of "
            f"features of a table, from 0 to {spec.channels - 1}. A feature may be in one group "
            "only"
        )


def random_images(spec: DataSpec, count: int) -> Tensor:
    """Return random inputs [B, C, H, W] in [0, 1] of several contrasts, the same at every call."""
    shape = (count, *spec.shape)
    x_BCHW = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    contrast_B = torch.linspace(0.2, 1, count).view(-1, *[1] * len(spec.shape))
    return x_BCHW * contrast_B


def probe_outputs(classifier: FrozenClassifier) -> list[Tensor]:
    """Return logits and features of random images, and a gradient with respect to their pixels."""
    x_BCHW = random_images(classifier.spec, PROBED).to(classifier.mean_C11.device).requires_grad_()
    with torch.enable_grad(), uncounted(classifier):
        logits_BN, features, _ = classifier.trace(x_BCHW)
        outputs = [logits_BN, *features.values()]
        loss = torch.stack([y.square().mean() for y in outputs]).sum()
        (gradient_BCHW,) = torch.autograd.grad(loss, x_BCHW)
    return [*(output.detach() for output in outputs), gradient_BCHW]


def same_up_to_rounding(ours: Tensor, theirs: Tensor) -> bool:
    """Return whether two results of a network differ by no more than rounding."""
    return bool((ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max())


@torch.no_grad()
def check_sides(network: nn.Module, channels: int, sides: Iterable[int]) -> None:
    """Check that a network can be called with square images of the given sides, in pixels.

    Raises:
        InputError: naming the side with which the call fails.
    """
    name = getattr(network, "name", type(network).__name__)
    for side in sides:
        try:
            network(torch.zeros(1, channels, side, side))
        except Exception as error:
            raise InputError(
                f"augmentation.resize: {name} cannot be called with images of {side} x "
                f"{side} pixels ({type(error).__name__}: {one_line(error)[:200]}); leave "
                "augmentation.resize out, or use augmentation.scale, which keeps the image size"
            ) from error


def explain_failure(network: str, shape: tuple[int, ...], error: BaseException) -> InputError:
    """Return the error for a network that cannot be called with inputs [B, C, H, W]."""
    keys = "classifier.channels, classifier.image_size" if len(shape) == 3 else "classifier.shape"
    return InputError(
        f"classifier: {network} cannot be called with {modality_of(shape[1:])} of shape [B, "
        f"{', '.join(map(str, shape))}] ({keys}): {type(error).__name__}: {one_line(error)[:300]}"
    )
