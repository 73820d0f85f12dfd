"""The gradient-norm term: the norm of the loss's gradient with respect to the classifier's weights.

It is computed per image by `torch.func.vmap`. Networks that vmap cannot run use one backward pass
per image, which is slower.

Shape suffixes: B batch, C channels, H height, W width, N classes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from textwrap import shorten
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from netinv_lightning.classifiers.forward_count import uncounted
from netinv_lightning.errors import one_line
from netinv_lightning.inversion.micro_batches import in_parts, total
from netinv_lightning.training.distributed import sum_over_ranks, world_size
from netinv_lightning.training.float32 import in_float32

log = logging.getLogger(__name__)

FLOOR = 1e-12  # under the root, so that the derivative at 0 is finite


class TwiceDifferentiable(TorchFunctionMode):
    """Computes LayerNorm from elementary operations.

    Under `vmap` torch treats LayerNorm's mean and deviation as constants in the second derivative,
    which is then wrong by some per cent (https://github.com/pytorch/functorch/issues/534).
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return (_layer_norm if func is F.layer_norm else func)(*args, **(kwargs or {}))


def _layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    dims = tuple(range(-len(normalized_shape), 0))
    x = x - x.mean(dim=dims, keepdim=True)
    x = x * (x.square().mean(dim=dims, keepdim=True) + eps).rsqrt()
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


@in_float32
def gradient_norm(
    network: nn.Module,
    x_BCHW: Tensor,
    label_B: Tensor,
    per_image: bool = True,
    micro_batch: int | None = None,
) -> Tensor:
    """Norm of the loss's gradient with respect to the classifier's weights.

        L_Grad = || d L(f_theta(I), y) / d theta ||

    It is differentiable with respect to the images. The classifier's weights are not changed.

    Args:
        network: The classifier, in evaluation mode.
        x_BCHW: Images I.
        label_B: Labels y.
        per_image: Whether to return the mean of the norms of all images instead of the norm of the
            batch's gradient. If the network normalises by the statistics of the batch, the gradient
            of an image is that of its loss within the batch.
        micro_batch: Images that are processed at once; None for all.
    """
    if not per_image:
        return _norm_of_batch(network, x_BCHW, label_B, micro_batch)
    vectorised = _vectorises(network, x_BCHW[:2])
    squares = _squares_by_vmap if vectorised else _squares_one_by_one
    (squares_B,) = in_parts(
        lambda x_bCHW, label_b: (squares(network, x_bCHW, label_b),), micro_batch, x_BCHW, label_B
    )
    return torch.sqrt(squares_B + FLOOR).mean()


def _norm_of_batch(
    network: nn.Module, x_BCHW: Tensor, label_B: Tensor, micro_batch: int | None
) -> Tensor:
    """Return the norm of the batch's gradient; squares are summed before the root."""

    def of_part(x_bCHW: Tensor, label_b: Tensor) -> tuple[Tensor, ...]:
        share = len(x_bCHW) / len(x_BCHW)
        gradients = grad(_loss, argnums=1)(network, _weights(network), x_bCHW, label_b)
        return tuple(share * g[None] for g in gradients.values())

    gradients_of_share = map(total, in_parts(of_part, micro_batch, x_BCHW, label_B))
    squares = torch.stack(
        [(sum_over_ranks(g) / world_size()).square().sum() for g in gradients_of_share]
    ).sum()
    return torch.sqrt(squares + FLOOR)


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach() for name, weight in network.named_parameters()}


def _loss(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    x_BCHW: Tensor,
    label_B: Tensor,
    reduction: str = "mean",
) -> Tensor:
    # Torch's fused attention has no second derivative.
    with TwiceDifferentiable(), sdpa_kernel(SDPBackend.MATH):
        logits_BN = functional_call(
            network, {**weights, **dict(network.named_buffers())}, (x_BCHW,)
        )
    return F.cross_entropy(logits_BN, label_B, reduction=reduction)


def _squares_by_vmap(network: nn.Module, x_BCHW: Tensor, label_B: Tensor) -> Tensor:
    """Return the squared norm of each image's gradient, [B]."""

    def of_image(weights: Mapping[str, Tensor], x_CHW: Tensor, label: Tensor) -> Tensor:
        return _loss(network, weights, x_CHW[None], label[None])

    gradients = vmap(grad(of_image), in_dims=(None, 0, 0))(_weights(network), x_BCHW, label_B)
    squares_B: Tensor = sum(g.flatten(1).square().sum(dim=1) for g in gradients.values())
    return squares_B


def _squares_one_by_one(network: nn.Module, x_BCHW: Tensor, label_B: Tensor) -> Tensor:
    """Return the squared norms [B], with one backward pass per image."""
    differentiable = torch.is_grad_enabled()
    weights = {name: weight.requires_grad_() for name, weight in _weights(network).items()}
    at_a_time = len(x_BCHW) if _mixes_images(network) else 1
    squares = []
    with torch.enable_grad():
        for x_bCHW, label_b in zip(x_BCHW.split(at_a_time), label_B.split(at_a_time), strict=True):
            for loss in _loss(network, weights, x_bCHW, label_b, reduction="none"):
                gradients = torch.autograd.grad(
                    loss,
                    [*weights.values()],
                    retain_graph=True,
                    create_graph=differentiable,
                    materialize_grads=True,
                )
                squares.append(
                    torch.stack([gradient.square().sum() for gradient in gradients]).sum()
                )
    return torch.stack(squares)


_KNOWN: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def _vectorises(network: nn.Module, x_BCHW: Tensor) -> bool:
    """Whether vmap runs the network and its second derivative; tried once per network."""
    if network not in _KNOWN:
        reason = (
            "it normalises by the statistics of the batch"
            if _mixes_images(network)
            else _refusal(network, x_BCHW)
        )
        if reason:
            log.warning(
                "loss.gradient: uses one backward pass per image, which is slower; torch.func.vmap "
                "cannot run this network (%s)",
                reason,
            )
        _KNOWN[network] = not reason
    return _KNOWN[network]


def _refusal(network: nn.Module, x_BCHW: Tensor) -> str:
    """Return why vmap cannot run the network; empty if it can."""
    x_BCHW = x_BCHW.detach().requires_grad_()
    label_B = torch.zeros(len(x_BCHW), dtype=torch.long, device=x_BCHW.device)
    try:
        with uncounted(network), torch.enable_grad():
            torch.autograd.grad(
                _squares_by_vmap(network, x_BCHW, label_B).sum(), x_BCHW, allow_unused=True
            )
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        return shorten(one_line(error), 120)
    return ""


def _mixes_images(network: nn.Module) -> bool:
    """Whether the logits of an image depend on the batch: BatchNorm without running statistics."""
    return any(
        isinstance(module, _BatchNorm) and module.running_mean is None
        for module in network.modules()
    )
