"""Context of a run: its directory, loggers, device and clock."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.tracking.loggers import open_loggers
from netinv_lightning.training.memory_format import Network, in_channels_last
from netinv_lightning.training.snapshots import Snapshots, Stateful
from netinv_lightning.training.trainer import make_trainer


class RunContext:
    """A context manager for one run. Loggers and device are created when they are first used.

    Args:
        cfg: The config of the run; `logger` and `trainer` are read.
        directory: The run directory, which is open.

    Attributes:
        trained: Metrics of the classifier that was trained for this run; empty if no classifier was
            trained.
    """

    def __init__(self, cfg: DictConfig, directory: RunDir) -> None:
        self.cfg, self.directory = cfg, directory
        self.trained: dict[str, float] = {}
        self._exits = ExitStack()
        self.start_clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exits.__exit__(kind, error, traceback)

    @cached_property
    def loggers(self) -> list[Logger]:
        """The loggers of the run. A W&B run starts when this is first read."""
        return self._exits.enter_context(open_loggers(self.cfg, self.directory))

    @cached_property
    def device(self) -> torch.device:
        """The device that `trainer` selects."""
        trainer = make_trainer(self.cfg, callbacks=[], loggers=[], enable_checkpointing=False)
        return trainer.strategy.root_device

    def place(self, network: Network) -> Network:
        """Move a network to the device of the run, in the channels-last format; return it."""
        return in_channels_last(network.to(self.device))

    @property
    def path(self) -> Path:
        return self.directory.path

    @property
    def figures(self) -> Path:
        return self.directory.figures

    @property
    def samples(self) -> Path:
        """The folder `samples`, which is created."""
        self.directory.samples.mkdir(exist_ok=True)
        return self.directory.samples

    def start_clock(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds since the computation started."""
        return time.perf_counter() - self._start

    def snapshots(
        self, name: str, every: int, parts: Mapping[str, Stateful] | None = None
    ) -> Snapshots:
        """Return the snapshots of one training; a resumed run continues from the last one.

        Args:
            name: Name of the checkpoint, without its extension.
            every: Steps between two snapshots.
            parts: Objects whose state is stored too.
        """
        path = self.directory.checkpoints / f"{name}.ckpt"
        return Snapshots(path, self.directory.resuming, every, parts or {})
