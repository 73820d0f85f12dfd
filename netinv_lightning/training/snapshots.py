"""Checkpoints of training loops without Lightning, and torch's random state, which they contain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from netinv_lightning.errors import InputError, Preempted, one_line
from netinv_lightning.runs.file_writing import replacing
from netinv_lightning.runs.signals import on_sigterm

EVERY = 250
"""Default number of steps between two checkpoints."""


class Stateful(Protocol):
    """A part of a checkpoint: a module, an optimiser, a schedule, a stream of random numbers."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


class Snapshots:
    """Writes the state of a loop to a file: at regular steps, after the last one, and on SIGTERM.

    It is written to a temporary file and moved into place, so that a complete file exists even if
    the run is killed. It contains only tensors and plain containers, and is read with
    `weights_only=True`.

    Args:
        path: The file; None writes nothing.
        resuming: Whether the loop continues from the file, if it exists.
        every: Steps between two checkpoints.
        also: Further parts of the state, by name, beside those of the loop.
    """

    def __init__(
        self,
        path: Path | None = None,
        resuming: bool = False,
        every: int = EVERY,
        also: Mapping[str, Stateful] | None = None,
    ) -> None:
        self.path, self.resuming, self.every, self.also = path, resuming, every, dict(also or {})

    @contextmanager
    def kept(self, steps: int, **parts: Stateful) -> Iterator[tuple[int, Callable[[int], None]]]:
        """Restore the state of the loop, and write it while the loop runs.

        Args:
            steps: Steps of the whole loop.
            parts: The objects that change in a step. Torch's global random state is stored too.

        Yields:
            The number of steps that are done already, and a function to call after each step with
            the number of steps done. After SIGTERM it writes the state and raises `Preempted`.

        Raises:
            InputError: if the file is damaged or belongs to another loop.
        """
        if self.path is None:
            yield 0, lambda step: None
            return
        path, everything, stopping = self.path, parts | self.also, False

        def remember(*_: Any) -> None:
            nonlocal stopping
            stopping = True

        def done(step: int) -> None:
            if stopping or step % self.every == 0 or step == steps:
                parts_of = {name: part.state_dict() for name, part in everything.items()}
                write_tensors({"step": step, "random": random_state(), **parts_of}, path)
            if stopping and step < steps:
                raise Preempted(f"stopped by SIGTERM after step {step}")

        first = self._restore(path, everything) if self.resuming and path.is_file() else 0
        with on_sigterm(remember):
            yield first, done
        if stopping:
            raise Preempted(f"stopped by SIGTERM after step {steps}")

    @staticmethod
    def _restore(path: Path, parts: Mapping[str, Stateful]) -> int:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            step = int(state["step"])
            for name, part in parts.items():
                check_shapes(name, state[name], part)
            for name, part in parts.items():
                part.load_state_dict(state[name])
            set_random_state(state["random"])
            return step
        except InputError as error:
            raise InputError(
                f"{path}: belongs to another training than config.yaml describes ({error}); "
                "remove it to start this training again"
            ) from error
        except Exception as error:  # damaged files raise errors of many kinds
            raise InputError(
                f"{path}: does not contain a state of this training ({one_line(error)}); "
                "remove the file to start from the first step"
            ) from error


def check_shapes(name: str, saved: Mapping[str, Any], part: Stateful) -> None:
    """Compare the tensors of a saved state with those of the part that would load it.

    An optimiser has a state only after its first step; its weights have the shapes instead. Tensors
    in lists are not compared: their number may grow during a training.

    Raises:
        InputError: naming the first tensor that differs.
    """
    found = _shapes(saved)
    expected = _shapes(part.state_dict())
    if isinstance(part, Optimizer):
        weights = [weight for group in part.param_groups for weight in group["params"]]
        expected = {
            key: tuple(weights[int(key.split(".")[1])].shape)
            for key, shape in found.items()
            if shape
        }
    for key, shape in expected.items():
        if found.get(key) != shape:
            raise InputError(
                f"{name}.{key} is {found.get(key, 'missing')} in the file, {shape} in the training"
            )


def _shapes(state: Mapping[Any, Any], prefix: str = "") -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor in nested mappings, by its keys joined by dots."""
    shapes: dict[str, tuple[int, ...]] = {}
    for key, value in state.items():
        if isinstance(value, Tensor):
            shapes[f"{prefix}{key}"] = tuple(value.shape)
        elif isinstance(value, Mapping):
            shapes |= _shapes(value, f"{prefix}{key}.")
    return shapes


def write_tensors(content: Any, path: Path) -> None:
    """Write tensors and plain containers; readers see the old file or the new one."""
    if not path.parent.parent.is_dir():
        raise FileNotFoundError(2, "the run directory is gone", str(path.parent.parent))
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as partial:
        torch.save(content, partial)


def random_state() -> dict[str, Any]:
    """Return torch's global random state, of the CPU and of the GPUs in use."""
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Restore torch's global random state from the result of `random_state`."""
    torch.set_rng_state(state["cpu"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
