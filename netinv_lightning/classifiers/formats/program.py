"""A network that is a list of operations on tensors, each a function or a module.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from netinv_lightning.errors import InputError

CONVOLUTIONS = {
    "conv1d": (nn.Conv1d, 1), "conv2d": (nn.Conv2d, 2), "conv3d": (nn.Conv3d, 3),
}  # fmt: skip
IN_TRAINING = {"batch_norm": "training", "dropout": "train", "feature_dropout": "train"}
"""Operations that behave differently in training, and the argument that is true in training."""


class Name(str):
    """An argument of an operation that is the name of an earlier value."""

    __slots__ = ()


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        name: Name of the operation, without its library.
        call: The function; None if a module of the network replaces it.
        values: Arguments by name: plain values, a `Name`, or lists of both.
        results: Names of the returned values; "" for a value that is not used.
        by_name: Whether arguments are passed by name.
        module: Path of the module that replaces the function; it gets the first argument only.
        last_used: Names of values that no later operation needs.
    """

    name: str
    call: Callable[..., Any] | None
    values: Mapping[str, Any]
    results: Sequence[str]
    by_name: bool
    module: str = ""
    last_used: tuple[str, ...] = ()


class Program(nn.Module):
    """A network that executes operations in order.

    Linear layers, convolutions and BatchNorm are modules with the names that they had when the
    program was exported.

    Args:
        image: Name of the input [B, C, H, W].
        weights: Full name and value of each weight, by the name of the weight in the program.
        steps: The operations.
        outputs: Names of the outputs; a single one is returned as a tensor, several as a tuple.

    Raises:
        InputError: if an operation is in training mode, or a name is not valid for a module.
    """

    def __init__(
        self,
        image: str,
        weights: Mapping[str, tuple[str, Tensor]],
        steps: Sequence[Operation],
        outputs: Sequence[str],
    ) -> None:
        super().__init__()
        self.layers = nn.Module()
        self.image, self.outputs = image, list(outputs)
        self._made: dict[tuple[Any, ...], str] = {}
        self.steps = _with_last_use([self._as_module(step, weights) for step in steps], outputs)
        used = {name for step in self.steps for name in _names(step.values)}
        self._places: dict[str, str] = {}
        for number, (name, (_, value)) in enumerate(weights.items()):
            if name in used:
                self.register_buffer(f"weight_{number}", value)
                self._places[name] = f"weight_{number}"

    def forward(self, x_BCHW: Tensor) -> Any:
        known: dict[str, Any] = {self.image: x_BCHW}
        known |= {name: getattr(self, place) for name, place in self._places.items()}
        for step in self.steps:
            results = self._run(step, known, x_BCHW.device)
            listed = results if isinstance(results, (tuple, list)) else [results]
            known |= {name: value for name, value in zip(step.results, listed, strict=True) if name}
            for name in step.last_used:
                known.pop(name, None)
        found = tuple(known[name] for name in self.outputs)
        return found[0] if len(found) == 1 else found

    def _run(self, step: Operation, known: Mapping[str, Any], device: torch.device) -> Any:
        values = {name: _filled(value, known, device) for name, value in step.values.items()}
        if step.module:
            return self.layers.get_submodule(step.module)(next(iter(values.values())))
        assert step.call is not None
        return step.call(**values) if step.by_name else step.call(*values.values())

    def _as_module(self, step: Operation, weights: Mapping[str, tuple[str, Tensor]]) -> Operation:
        """Return the step with its function replaced by a module if it is a known layer."""
        if step.values.get(IN_TRAINING.get(step.name, "")) is True:
            raise InputError("the program is in training mode; call eval() before the export")
        weight = step.values.get("running_mean" if step.name == "batch_norm" else "weight")
        if not isinstance(weight, Name) or weight not in weights:
            return step
        own = {
            name: weights[value][1]
            for name, value in step.values.items()
            if isinstance(value, Name) and value in weights
        }
        made = _module(step, own)
        if made is None:
            return step
        key = (step.name, *(f"{name}={value}" for name, value in list(step.values.items())[1:]))
        if key not in self._made:
            path = weights[weight][0].rpartition(".")[0] or step.name
            if any(known == path or known.startswith(f"{path}.") for known in self._made.values()):
                path += f"_{len(self._made)}"  # e.g. a weight that is used with several strides
            _place(self.layers, path, made)
            self._made[key] = path
        first = dict([next(iter(step.values.items()))])
        return replace(step, call=None, module=self._made[key], values=first)


def _module(step: Operation, own: Mapping[str, Tensor]) -> nn.Module | None:
    """Return the layer that is equivalent to a step; None if the step is not a known layer."""
    weight, bias, values = own.get("weight"), own.get("bias"), step.values
    if any(values.get(n) is not None and n not in own for n in ("weight", "bias")):
        return None  # weight or bias is computed from other values
    made: nn.Module
    if step.name == "linear" and weight is not None:
        made = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], bias is not None)
    elif step.name in CONVOLUTIONS and weight is not None:
        kind, dims = CONVOLUTIONS[step.name]
        options = {k: values[k] for k in ("stride", "padding", "dilation") if k in values}
        groups = values.get("groups", 1)
        made = nn.utils.skip_init(
            kind, weight.shape[1] * groups, weight.shape[0], tuple(weight.shape[2:]),
            groups=groups, bias=bias is not None,
            **{k: v if isinstance(v, str) else _expanded(v, dims) for k, v in options.items()},
        )  # fmt: skip
    elif step.name == "batch_norm" and own.keys() >= {"running_mean", "running_var"}:
        made = _AnyBatchNorm(
            len(own["running_mean"]), eps=values["eps"], affine=weight is not None
        ).eval()
    else:
        return None
    for name, tensor in own.items():
        setattr(made, name, nn.Parameter(tensor) if "running" not in name else tensor)
    return made


class _AnyBatchNorm(nn.BatchNorm2d):
    """BatchNorm that accepts maps and vectors."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass


def _expanded(value: Any, dims: int) -> tuple[int, ...]:
    numbers = value if isinstance(value, (list, tuple)) else [value]
    return tuple(numbers) * dims if len(numbers) == 1 else tuple(numbers)


def _place(root: nn.Module, path: str, module: nn.Module) -> None:
    """Add a module below `root`, with containers for the parts of its path."""
    *parents, last = path.split(".")
    try:
        for part in parents:
            if part not in root._modules:
                root.add_module(part, nn.Module())
            root = root.get_submodule(part)
        root.add_module(last, module)
    except KeyError as error:
        raise InputError(f"the name {path} of a layer is not valid for a module") from error


def _with_last_use(steps: Sequence[Operation], outputs: Sequence[str]) -> list[Operation]:
    """Return the steps with `last_used` set, so that values can be freed early."""
    needed, reversed_steps = set(outputs), []
    for step in reversed(steps):
        names = {*_names(step.values), *step.results} - needed
        reversed_steps.append(replace(step, last_used=tuple(sorted(names))))
        needed |= names
    return reversed_steps[::-1]


def _names(node: Any) -> list[str]:
    """Return the names of earlier values among the arguments."""
    if isinstance(node, Mapping):
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        return [name for value in node for name in _names(value)]
    return [str(node)] if isinstance(node, Name) else []


def _filled(value: Any, known: Mapping[str, Any], device: torch.device) -> Any:
    if isinstance(value, (list, tuple)):
        return [_filled(entry, known, device) for entry in value]
    if isinstance(value, Name):
        return known[value]
    return device if isinstance(value, torch.device) else value
