"""Checkpoints of training loops that are not Lightning's, and the randomness that every checkpoint holds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch

from netinv_lightning.errors import InputError, Preempted, one_line
from netinv_lightning.runs.signals import on_sigterm

EVERY = 250
"""Steps between two checkpoints where no key says otherwise."""


class Stateful(Protocol):
    """What a checkpoint can hold: a module, an optimiser, a schedule, a stream of random numbers."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


class Snapshots:
    """Keeps the state of one loop in one file: every so many steps, after the last step, and when SIGTERM asks the run to stop.

    The file is written beside its place and then moved there, so a kill at any moment leaves the old one or the new one. It holds
    tensors and plain containers only, and is read with `weights_only=True`.

    Args:
        path: The file; None keeps nothing.
        resuming: Whether the loop continues from a file that is there.
        every: Steps between two.
        also: Further parts of the state, by name, beside those that the loop names.
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
        """Restores the loop's state and keeps it while the loop runs.

        Args:
            steps: Of the whole loop.
            parts: What changes in a step. Torch's global randomness is kept too.

        Yields:
            How many steps are done already, and a function to be called with the number of steps done after each step. It raises
            `Preempted`, with the state kept, once SIGTERM has asked the run to stop.

        Raises:
            InputError: if the file is damaged, or is another loop's.
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
            for name, part in parts.items():
                part.load_state_dict(state[name])
            set_random_state(state["random"])
            return int(state["step"])
        except Exception as error:  # whatever a damaged file raises
            raise InputError(
                f"{path}: cannot be resumed from ({one_line(error)}); remove it to start this training anew"
            ) from error


def write_tensors(content: Any, path: Path) -> None:
    """Writes tensors and plain containers; readers see the old file or the new one, never a half."""
    if not path.parent.parent.is_dir():
        raise FileNotFoundError(2, "the run directory is gone", str(path.parent.parent))
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    torch.save(content, partial)
    os.replace(partial, path)


def random_state() -> dict[str, Any]:
    """The state of torch's global randomness, on the CPU and on the GPUs in use."""
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Continues torch's global randomness where `random_state` noted it."""
    torch.set_rng_state(state["cpu"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
