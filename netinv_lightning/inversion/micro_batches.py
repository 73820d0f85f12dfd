"""Compute functions of a batch in parts, with the gradient of the batch and the memory of a part.

    y = f(x) part by part, whose graphs are dropped -> objective of all y -> dL/dy
        -> f again part by part -> dL/dx

The objective gets the outputs of the whole batch, so that terms that compare images are exact. This
is the gradient cache of Gao et al. 2021 (arXiv:2101.06983), with gradients of pixels
instead of weights. It costs a second forward pass of each image.

Shape suffixes: B batch, P parts, N classes, C channels, H height, W width, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from netinv_lightning.classifiers.forward_count import uncounted
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.probing import PROBED, random_images
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.channel_moments import moments_of_share
from netinv_lightning.training.float32 import in_float32

Function = Callable[..., tuple[Tensor, ...]]
LEAST_VARIANCE = 1e-30
"""Variance below which a channel counts as constant, so that the derivative of the root is finite.
"""


def in_parts(function: Function, micro_batch: int | None, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Return the outputs of a function of a batch, computed for at most `micro_batch` rows at once.

    The result is differentiable once with respect to the inputs.

    Args:
        function: Takes a part of the rows of each input and returns tensors, whose rows are
            concatenated over the parts. It must be deterministic.
        micro_batch: Rows of a part; None, or the batch or more, to call the function once.
        inputs: Tensors with B rows each.
    """
    if micro_batch is None or micro_batch >= len(inputs[0]):
        return function(*inputs)
    outputs: tuple[Tensor, ...] = _InParts.apply(function, micro_batch, *inputs)
    return outputs


class _InParts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, function: Function, micro_batch: int, *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        kind = inputs[0].device.type
        ctx.function, ctx.micro_batch = function, micro_batch
        ctx.autocast = kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
        ctx.save_for_backward(*inputs)
        ctx.set_materialize_grads(False)
        outputs_P = [
            [output.detach() for output in function(*part)]  # drops the graph of the part
            for part in _split(inputs, micro_batch)
        ]
        ctx.rows = [[len(output) for output in outputs] for outputs in outputs_P]
        return tuple(torch.cat(column) for column in zip(*outputs_P, strict=True))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        if torch.is_grad_enabled():  # due to create_graph=True; the result would be incomplete
            raise RuntimeError(
                "application.micro_batch: a term of the objective needs a second derivative, which "
                "is not available for parts of a batch; leave application.micro_batch out"
            )
        needed = ctx.needs_input_grad[2:]
        rows = list(zip(*ctx.rows, strict=True))  # numbers of rows of each output, in each part
        parts_of: list[Sequence[Tensor | None]] = [
            [None] * len(ctx.rows) if gradient is None else gradient.split(list(counts))
            for gradient, counts in zip(gradients, rows, strict=True)
        ]
        found: list[tuple[Tensor, ...]] = []
        for part, of_part in zip(
            _split(ctx.saved_tensors, ctx.micro_batch), zip(*parts_of, strict=True), strict=True
        ):
            found.append(_gradients(ctx.function, part, of_part, needed, ctx.autocast))
        columns = iter(zip(*found, strict=True))
        return None, None, *(torch.cat(next(columns)) if need else None for need in needed)


def _split(inputs: Sequence[Tensor], micro_batch: int) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(x.split(micro_batch) for x in inputs), strict=True)


def _gradients(
    function: Function,
    part: Sequence[Tensor],
    of_outputs: Sequence[Tensor | None],
    needed: Sequence[bool],
    autocast: tuple[str, torch.dtype, bool],
) -> tuple[Tensor, ...]:
    """Return the gradients of the needed inputs of a part, given those of its outputs."""
    kind, dtype, enabled = autocast
    leaves = [x.detach().requires_grad_(need) for x, need in zip(part, needed, strict=True)]
    with torch.enable_grad(), torch.autocast(kind, dtype, enabled=enabled):
        outputs = function(*leaves)
    used = [
        (output, gradient)
        for output, gradient in zip(outputs, of_outputs, strict=True)
        if gradient is not None and output.requires_grad
    ]
    return torch.autograd.grad(
        [output for output, _ in used],
        [leaf for leaf, need in zip(leaves, needed, strict=True) if need],
        [gradient for _, gradient in used],
        materialize_grads=True,
    )


def total(rows: Tensor) -> Tensor:
    """Return the sum over the parts, each of which returned one row."""
    return rows[0] if len(rows) == 1 else rows.sum(dim=0)


def trace_in_parts(
    classifier: FrozenClassifier, x_BCHW: Tensor, micro_batch: int | None
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Return the result of `FrozenClassifier.trace`, computed for `micro_batch` images at once.

    With several parts, the inputs of BatchNorm layers are not stored, because they are large. Each
    is replaced by two rows [2, C] with the mean and the variance of its channels.
    """
    if micro_batch is None or micro_batch >= len(x_BCHW):
        return classifier.trace(x_BCHW)
    differentiable = torch.is_grad_enabled() and x_BCHW.requires_grad
    layers: list[str] = []

    def of_part(x_bCHW: Tensor) -> tuple[Tensor, ...]:
        with torch.set_grad_enabled(differentiable):  # tokens are recorded only with a gradient
            if differentiable and not x_bCHW.requires_grad:
                x_bCHW = x_bCHW.detach().requires_grad_()
            logits_bN, features, normed = classifier.trace(x_bCHW)
            layers[:] = normed
            recorded = [
                value
                for name, x_bC in normed.items()
                for value in (_moments(x_bC) if name in classifier.batch_norms else (x_bC,))
            ]
        return logits_bN, *features.values(), *recorded

    outputs = iter(in_parts(of_part, micro_batch, x_BCHW))
    logits_BN = next(outputs)
    features = {name: next(outputs) for name in classifier.feature_layers}
    share_P = torch.tensor(
        [len(part) / len(x_BCHW) for part in x_BCHW.split(micro_batch)], device=x_BCHW.device
    )
    normed = {
        name: two_rows(next(outputs), next(outputs), share_P)
        if name in classifier.batch_norms
        else next(outputs)
        for name in layers
    }
    return logits_BN, features, normed


@in_float32
def _moments(x_BC: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of values [B, C, ...] per channel, as one row [1, C] each."""
    mean_C, var_C = moments_of_share(x_BC)
    return mean_C[None], var_C[None]


def two_rows(mean_PC: Tensor, var_PC: Tensor, share_P: Tensor) -> Tensor:
    """Return two rows [2, C] with the mean and the variance of all parts together.

    Their variance is the mean of the variances of the parts plus the variance of their means.

    Args:
        mean_PC: Mean of each part.
        var_PC: Variance of each part.
        share_P: Share of each part in the batch; their sum is 1.
    """
    share_P = share_P.to(mean_PC.dtype)
    mean_C = share_P @ mean_PC
    var_C = share_P @ (var_PC + (mean_PC - mean_C).square())
    std_C = var_C.clamp_min(LEAST_VARIANCE).sqrt()
    return torch.stack([mean_C - std_C, mean_C + std_C])


@torch.no_grad()
def check_parts(classifier: FrozenClassifier, micro_batch: int) -> None:
    """Check that the logits of an image do not depend on the batch that it is in.

    Raises:
        InputError: naming the key.
    """
    x_BCHW = random_images(classifier.spec, PROBED).to(classifier.mean_C11.device)
    try:
        with uncounted(classifier):
            whole_BN = classifier(x_BCHW)
            parts_BN = torch.cat([classifier(part) for part in (x_BCHW[:2], x_BCHW[2:])])
        same = torch.allclose(parts_BN, whole_BN, rtol=1e-3, atol=1e-4)
    except Exception:  # a network may need all images of a batch
        same = False
    if not same:
        raise InputError(
            f"application.micro_batch={micro_batch}: the logits of an image depend on the other "
            "images of its batch, or on chance, so parts would give another result. Leave it out; "
            "to save memory set a smaller application.batch_size"
        )
