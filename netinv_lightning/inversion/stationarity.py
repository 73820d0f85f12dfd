"""Stationarity: the weights of a trained classifier as a sum of gradients of its training images.

The gradient of cross-entropy for an image is a non-negative multiple of the gradient of its margin.
When training with weight decay has converged, weights and gradients balance. Without weight decay,
a homogeneous network converges to a point where they balance in direction (Haim et al. 2022, arXiv
2206.07758; Buzaglo et al. 2023, arXiv 2305.03350 and 2307.01827):

    theta = sum_i lambda_i d m_i / d theta,   lambda_i >= 0
    m_i = f_y(x_i) - log sum_{j != y} exp f_j(x_i)

For large logits, the soft maximum in m approaches the maximum that the KKT conditions contain.
Images can therefore be optimised until their gradients add up to the weights. The equation holds
for weights that decay. In the recipes of this project these are matrices and kernels
(`decayed_weights`), not biases and BatchNorm parameters.

Shape suffixes: B batch, N classes, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from netinv_lightning.classifiers.forward_count import uncounted
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.log_odds import log_odds
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.inversion.micro_batches import in_parts, total
from netinv_lightning.training.distributed import sum_over_ranks
from netinv_lightning.training.float32 import autocast_off, in_float32
from netinv_lightning.training.gradient_steps import decayed_weights


class SmoothGates(TorchFunctionMode):
    """Replaces the derivative of ReLU and LeakyReLU by a smooth one; their values do not change.

    The derivative rises from the slope to 1 along sigmoid(sharpness * x). The true derivative is a
    step function, whose own derivative is 0, so that optimisation could not activate a unit. Haim
    et al. 2022 name a smooth derivative as a requirement of their attack. An in-place ReLU is
    replaced by one that is not in-place.

    Args:
        sharpness: Steepness of the sigmoid, above 0, in units of 1 / pre-activation; infinity for
            the true derivative.
    """

    def __init__(self, sharpness: float) -> None:
        super().__init__()
        self.sharpness = sharpness

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _RELUS:
            return self._gate(args[0] if args else kwargs["input"], 0.0)
        if func is F.leaky_relu:
            return self._leaky(*args, **kwargs)
        return func(*args, **kwargs)

    def _leaky(self, input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
        return self._gate(input, negative_slope)

    def _gate(self, x: Tensor, slope: float) -> Tensor:
        value = F.leaky_relu(x, slope)
        if self.sharpness == torch.inf:
            return value
        smooth = slope * x + (1 - slope) * F.softplus(x, self.sharpness)
        return smooth + (value - smooth).detach()


_RELUS = {F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}


@in_float32
def margin_gradients(
    network: nn.Module,
    x_BCHW: Tensor,
    label_B: Tensor,
    multiplier_B: Tensor,
    sharpness: float = torch.inf,
    micro_batch: int | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """Return sum_i lambda_i d m_i / d theta over the batch, and the logits.

    Both are differentiable with respect to images and multipliers. The network's weights are not
    changed. One forward and one backward pass are needed.

    Args:
        network: The classifier, in evaluation mode.
        x_BCHW: Images.
        label_B: Their labels.
        multiplier_B: lambda.
        sharpness: Sharpness of the gates; see `SmoothGates`.
        micro_batch: Images that are processed at once; None for all.

    Returns:
        The sum for each of `decayed_weights`, over all ranks; and the logits [B, N].
    """

    def of_part(x_bCHW: Tensor, label_b: Tensor, multiplier_b: Tensor) -> tuple[Tensor, ...]:
        differentiable = torch.is_grad_enabled()
        with torch.enable_grad():
            weights = {
                name: weight.detach().requires_grad_()
                for name, weight in decayed_weights(network).items()
            }
            # Torch's fused attention has no second derivative.
            with SmoothGates(sharpness), sdpa_kernel(SDPBackend.MATH):
                logits_bN = functional_call(network, weights, (x_bCHW,))
            margin = (multiplier_b * log_odds(logits_bN, label_b)).sum()
            gradients = torch.autograd.grad(
                margin, list(weights.values()), create_graph=differentiable, materialize_grads=True
            )
        return logits_bN, *(gradient[None] for gradient in gradients)

    logits_BN, *rows = in_parts(of_part, micro_batch, x_BCHW, label_B, multiplier_B)
    return {
        name: sum_over_ranks(total(gradients_P))
        for name, gradients_P in zip(decayed_weights(network), rows, strict=True)
    }, logits_BN


def stationarity(weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> Tensor:
    """Distance of the images' gradients G to the weights.

        |theta - G|^2 / |theta|^2,   mean over the layers

    Args:
        weights: theta, by layer.
        gradients: G, by layer.

    Returns:
        0 at a solution; 1 for G = 0.
    """
    return torch.stack(
        [
            (weights[name] - g).square().sum() / weights[name].square().sum()
            for name, g in gradients.items()
        ]
    ).mean()


def misalignment(weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> Tensor:
    """1 - cosine of the angle between weights and gradients, each layer divided by its |theta|.

    It does not depend on the scale of the gradients, and lies in [0, 2].
    """
    along, length = _projection(weights, gradients)
    return 1 - along / (len(weights) * length).clamp_min(1e-30).sqrt()


def best_scale(weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> Tensor:
    """Return the s >= 0 with the smallest `stationarity` of s * G."""
    along, length = _projection(weights, gradients)
    return along.clamp_min(0) / length.clamp_min(1e-30)


def _projection(
    weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return <theta, G> and |G|^2, where each layer is divided by its |theta|."""
    square = {name: weight.square().sum() for name, weight in weights.items()}
    along = torch.stack(
        [(weights[name] * g).sum() / square[name] for name, g in gradients.items()]
    ).sum()
    return along, torch.stack(
        [g.square().sum() / square[name] for name, g in gradients.items()]
    ).sum()


def check_twice_differentiable(classifier: FrozenClassifier, key: str) -> None:
    """Check that the gradients of the weights are differentiable with respect to the image.

    Args:
        classifier: The classifier.
        key: The config key that needs the derivative, for the error.

    Raises:
        InputError: if the classifier has no weights or no such derivative; the message names the
            in-place layers, which are the usual reason.
    """
    weights = {
        name: weight.detach().requires_grad_()
        for name, weight in decayed_weights(classifier).items()
    }
    if not weights:
        raise InputError(
            f"{key}: needs the gradient of the classifier's weights, but the classifier has no "
            "trainable matrix or kernel; leave it out"
        )
    shape = (2, *classifier.spec.shape)
    x_BCHW = torch.zeros(shape, device=classifier.mean_C11.device, requires_grad=True)
    try:
        with uncounted(classifier), autocast_off(x_BCHW.device):
            with sdpa_kernel(SDPBackend.MATH):
                total = functional_call(classifier, weights, (x_BCHW,)).logsumexp(dim=1).sum()
            gradients = torch.autograd.grad(
                total, list(weights.values()), create_graph=True, materialize_grads=True
            )
            torch.autograd.grad(
                torch.stack([gradient.square().sum() for gradient in gradients]).sum(),
                x_BCHW,
                allow_unused=True,
            )
    except RuntimeError as error:
        in_place = [
            name
            for name, module in classifier.network.named_modules()
            if getattr(module, "inplace", False)
        ]
        advice = (
            f"set inplace=False in its {', '.join(in_place)}"
            if in_place
            else "choose another layer there, or leave it out"
        )
        raise InputError(
            f"{key}: the classifier's network has no second derivative "
            f"({one_line(error)[:120]}); {advice}"
        ) from error
