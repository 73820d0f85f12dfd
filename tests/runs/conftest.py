"""Fixtures of the tests of runs and sweeps."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from netinv_lightning import run as entry
from tests.runs import counting_command


@pytest.fixture
def netinv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """The counting command in this process and in `tmp_path`; returns its exit status."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(entry, "run", counting_command.count)
    monkeypatch.setenv(counting_command.GO, "/")  # which exists, so no job waits

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["netinv", *arguments])
        with pytest.raises(SystemExit) as stopped:
            entry.main()
        return int(stopped.value.code or 0)

    return call


@pytest.fixture
def interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[int, Callable[[], None]], None]]:
    """Call a function once, in the training step of the given number."""
    from netinv_lightning.inversion.module import InversionModule  # imports torch

    step = InversionModule.training_step

    def at(number: int, act: Callable[[], None]) -> None:
        def training_step(self: InversionModule, batch: Any, batch_idx: int) -> Any:
            if self.global_step == number:
                monkeypatch.setattr(InversionModule, "training_step", step)
                act()
            return step(self, batch, batch_idx)

        monkeypatch.setattr(InversionModule, "training_step", training_step)

    yield at
    monkeypatch.setattr(InversionModule, "training_step", step)
