"""Find the logits in the output of a network, or compute them from its probabilities.

The logits are the first of these that exists:

1. the output that `classifier.output` names (an index, a key or an attribute; nested ones joined by
   dots);
2. the output itself, if it is a tensor of shape [B, N];
3. its attribute or key `logits`;
4. the only tensor of shape [B, N] in it.

A binary classifier may return one number per image, [B] or [B, 1]: z becomes the logits (0, z), so
class 1 is the positive class.

If the output contains probabilities, their logarithms are used as logits. The kind of the output is
detected on random images: all rows sum to 1 and all values are in [0, 1] (`probabilities`); the
exponentials of all rows sum to 1 (`log_probabilities`); the network ends in a sigmoid (`sigmoid`).
`classifier.output_kind` overrides this. With `multi_label` each of the N numbers is the logit of
its own label, or its probability if the network ends in a sigmoid.

Shape suffixes: B batch, N classes, C channels, H height, W width.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from netinv_lightning.classifiers.output_kinds import LOGITS, kind_of, outside
from netinv_lightning.errors import InputError

MULTI_LABEL = "multi_label"
KINDS = (LOGITS, "probabilities", "log_probabilities", "sigmoid", MULTI_LABEL)
AUTO = "auto"
DEPTH = 4
"""Depth to which nested containers are searched for tensors."""


@dataclass(frozen=True)
class Output:
    """How logits [B, N] are computed from what a network returns.

    Attributes:
        path: Names or indices from the output to the tensor; empty for the output itself.
        kind: What the tensor contains, one of `KINDS`.
        single: Whether there is one number per image for two classes.
        multi_label: Whether classification is multi-label: each logit has its own sigmoid.
    """

    path: tuple[str, ...] = ()
    kind: str = LOGITS
    single: bool = False
    multi_label: bool = False

    @property
    def name(self) -> str:
        return ".".join(self.path)

    def logits(self, output: Any, x_BCHW: Tensor) -> Tensor:
        """Return the logits [B, N] on the device of the images, float32 or wider.

        Args:
            output: What the network returned.
            x_BCHW: The images it was called with.
        """
        for step in self.path:
            output = child(output, step)
        values: Tensor = output.to(x_BCHW.device, torch.promote_types(x_BCHW.dtype, torch.float32))
        values = values.reshape(-1, 1) if self.single else values.flatten(1)
        if self.kind == "probabilities":
            values = _log(values)
        elif self.kind == "sigmoid":
            values = _log(values) - _log(1 - values)
        return torch.cat([torch.zeros_like(values), values], dim=1) if self.single else values

    def describe(self, network: str) -> str:
        """Return one line that names the output in use; empty for a tensor of logits [B, N]."""
        parts = [f"{network} returns several outputs; {self.name} is used"] if self.path else []
        parts += {
            "probabilities": [
                "the network returns probabilities, whose logarithms are used as logits"
            ],
            "log_probabilities": [
                "the network returns log-probabilities, which are used as logits"
            ],
            "sigmoid": ["the network ends in a sigmoid, whose input is used as logits"],
        }.get(self.kind, [])
        if self.multi_label:
            parts.append("the network is multi-label, so images are conditioned on sets of labels")
        elif self.kind == "sigmoid" and not self.single:
            parts.append("if the network is multi-label, set output_kind=multi_label")
        parts += (
            [
                "one number z per image is used as the logits (0, z), so class 1 is the positive "
                "class"
            ]
            if self.single
            else []
        )
        return (
            f"classifier: {'; '.join(parts)} (classifier.output, classifier.output_kind)"
            if parts
            else ""
        )


def _log(p: Tensor) -> Tensor:
    return p.clamp_min(torch.finfo(p.dtype).tiny).log()


def child(output: Any, step: str) -> Any:
    """Return the item, key or attribute `step` of an output.

    Raises:
        LookupError: if there is none.
    """
    if isinstance(output, Mapping):
        return output[next((key for key in output if str(key) == step), step)]
    if isinstance(output, (tuple, list)) and step.isdecimal():
        return output[int(step)]
    if step.startswith("_") or not hasattr(output, step):
        raise LookupError(step)
    return getattr(output, step)


def tensors(output: Any) -> dict[tuple[str, ...], Tensor]:
    """Return the floating-point tensors of an output by their paths, outer containers first."""
    found: dict[tuple[str, ...], Tensor] = {}
    waiting: deque[tuple[tuple[str, ...], Any]] = deque([((), output)])
    while waiting:
        path, value = waiting.popleft()
        if isinstance(value, Tensor):
            if value.is_floating_point():
                found[path] = value
        elif len(path) < DEPTH:
            waiting.extend(((*path, name), item) for name, item in _items(value))
    return found


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((str(key), item) for key, item in value.items())
    elif isinstance(value, (tuple, list)):
        names = getattr(value, "_fields", range(len(value)))
        yield from zip(map(str, names), value, strict=True)
    elif hasattr(value, "__dict__"):
        yield from ((name, item) for name, item in vars(value).items() if not name.startswith("_"))


def find_output(
    output: Any,
    network: str,
    batch: int,
    num_classes: int,
    named: str | None = None,
    kind: str = AUTO,
) -> Output:
    """Find the logits in what a network returned for random images, by the rule above.

    Args:
        output: What it returned.
        network: Name of its class, for messages.
        batch: B.
        num_classes: N.
        named: `classifier.output`.
        kind: `classifier.output_kind`.

    Raises:
        InputError: if no tensor fits, or several do.
    """
    if kind not in (AUTO, *KINDS):
        raise InputError(
            f"classifier.output_kind={kind}: must be one of {', '.join((AUTO, *KINDS))}"
        )
    found = tensors(output)
    path = (
        _named(output, found, network, named)
        if named is not None
        else _path(found, network, batch, num_classes)
    )
    values = found[path]
    if not _fits(values, batch, num_classes):
        raise InputError(
            f"classifier.num_classes={num_classes}: the network returns outputs of shape "
            f"{list(values.shape[1:])}; it must return one logit per class"
            + _number_of_classes(values, batch)
        )
    if bool(values.isnan().any()) or bool((values == torch.inf).any()):
        raise InputError(
            f"classifier: {network} returns NaN or infinity for images in [0, 1]; check its "
            "weights, classifier.mean and classifier.std"
        )
    if outside(values, kind):
        raise InputError(
            f"classifier.output_kind={kind}: {network} returns values from {values.min():.4g} to "
            f"{values.max():.4g} for random images, which cannot be {kind}. Leave the key out, or "
            f"set classifier.output_kind={LOGITS}"
        )
    single = values.numel() == batch
    if kind == MULTI_LABEL:
        if single:
            raise InputError(
                f"classifier.output_kind={kind}: the network returns one number per image; it must "
                "return one per label"
            )
        sigmoid = kind_of(values, single=True) == "sigmoid"  # whatever the numbers sum to
        return Output(path, "sigmoid" if sigmoid else LOGITS, multi_label=True)
    if single and kind in ("probabilities", "log_probabilities"):
        kind = "sigmoid" if kind == "probabilities" else kind
    return Output(path, kind_of(values, single) if kind == AUTO else kind, single)


def _named(
    output: Any, found: Mapping[tuple[str, ...], Tensor], network: str, named: str
) -> tuple[str, ...]:
    path, value = tuple(named.split(".")) if named else (), output
    try:
        for step in path:
            value = child(value, step)
    except (LookupError, TypeError):
        value = None
    for known, tensor in found.items():
        if tensor is value:
            return known
    raise InputError(
        f"classifier.output={named}: {network} has no such output; it returns {_listed(found)}"
    )


def _path(
    found: Mapping[tuple[str, ...], Tensor], network: str, batch: int, num_classes: int
) -> tuple[str, ...]:
    if () in found:
        return ()
    if named := [path for path in found if path[-1] == LOGITS]:
        return named[0]
    fitting = [path for path, values in found.items() if _fits(values, batch, num_classes)]
    exact = [path for path in fitting if found[path].shape[1:2] == (num_classes,)]
    if len(exact or fitting) == 1:
        return (exact or fitting)[0]
    shape = f"[B, {num_classes}]"
    if len(found) == 1:
        return next(iter(found))
    how_many = "none" if not fitting else "several"
    raise InputError(
        f"classifier.output: must name the logits, since {network} returns {_listed(found)}, "
        f"{how_many} of shape {shape}; "
        "set classifier.output to one of these names, or classifier.num_classes to the number of "
        "classes"
    )


def _listed(found: Mapping[tuple[str, ...], Tensor]) -> str:
    if not found:
        return "no floating-point tensor"
    return ", ".join(
        f"{'.'.join(path) or 'a tensor'} [{', '.join(['B', *map(str, v.shape[1:])])}]"
        for path, v in found.items()
    )


def _fits(values: Tensor, batch: int, num_classes: int) -> bool:
    """Return whether the shape is [B, N] or [B, N, 1, 1]; for two classes also [B] or [B, 1]."""
    if values.shape[:1] != (batch,):
        return False
    return (
        values.dim() > 1 and values.shape[1] * batch == values.numel() == num_classes * batch
    ) or (num_classes == 2 and values.numel() == batch)


def _number_of_classes(values: Tensor, batch: int) -> str:
    """Return the remedy if an output has one row of numbers, or one number, per image."""
    if values.dim() > 2 or values.shape[:1] != (batch,):
        return ""
    numbers = values.numel() // batch
    binary = " (one number per image is a binary classifier)" if numbers == 1 else ""
    return f". Set classifier.num_classes={max(2, numbers)}{binary}"
