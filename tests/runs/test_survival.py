"""Runs that are stopped and resumed equal the uninterrupted run, bit by bit."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from omegaconf import DictConfig

import netinv_lightning
from experiments.run_results import differences, result
from netinv_lightning.errors import Preempted
from netinv_lightning.run import run
from netinv_lightning.runs.run_failure import OutputLost
from tests.conftest import FEW_STEPS
from tests.runs.stops import raising, status

Compose = Callable[..., DictConfig]
DEFAULT: tuple[str, ...] = ()
TWO_GENERATORS = ("n_generators=2",)
DROPOUT = ("loss=reconstruction", "generator.dropout=0.3", "application.log_every=3")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """The result of an uninterrupted run with these overrides, made once."""
    results: dict[tuple[str, ...], dict[str, Any]] = {}

    def result_with(*overrides: str) -> dict[str, Any]:
        if overrides not in results:
            path = tmp_path_factory.mktemp("whole") / "run"
            run(netinv_lightning.compose([*FEW_STEPS, *overrides]), path)
            results[overrides] = result(path)
        return results[overrides]

    return result_with


@pytest.mark.parametrize(
    ("step", "overrides"),
    [
        (1, DEFAULT),  # before the checkpoint of step 4
        (5, DEFAULT),
        (7, DEFAULT),
        (5, TWO_GENERATORS),
        (5, DROPOUT),
        (7, DROPOUT),
    ],
)
def test_a_resumed_run_equals_the_uninterrupted_one(
    compose: Compose,
    whole: Callable[..., dict[str, Any]],
    tmp_path: Path,
    interrupted: Callable[..., None],
    step: int,
    overrides: tuple[str, ...],
) -> None:
    """Weights, optimiser, schedule, random streams, metrics and samples are the same."""
    interrupted(step, raising(RuntimeError("killed")))
    with pytest.raises(RuntimeError, match="killed"):
        run(compose(*overrides), tmp_path / "broken")
    assert (tmp_path / "broken" / "checkpoints" / "last.ckpt").exists() == (step > 4)
    run(compose(*overrides), tmp_path / "broken", resuming=True)
    assert list(differences(whole(*overrides), result(tmp_path / "broken"))) == []


def test_a_run_left_by_exit_in_a_step_resumes(
    compose: Compose,
    whole: Callable[..., dict[str, Any]],
    tmp_path: Path,
    interrupted: Callable[..., None],
) -> None:
    """Submitit exits in the middle of a step when it requeues a preempted job."""
    broken = tmp_path / "broken"
    interrupted(6, raising(SystemExit(122)))
    with pytest.raises(SystemExit):
        run(compose(), broken)
    assert status(broken)["state"] == "failed"
    run(compose(), broken, resuming=True)
    assert list(differences(whole(), result(broken))) == []


def test_a_run_killed_in_its_evaluation_resumes(
    compose: Compose,
    whole: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            "netinv_lightning.applications.invert.evaluate", raising(RuntimeError("killed"))
        )
        with pytest.raises(RuntimeError, match="killed"):
            run(compose(), tmp_path / "broken")
    run(compose(), tmp_path / "broken", resuming=True)
    assert list(differences(whole(), result(tmp_path / "broken"))) == []


def test_the_last_checkpoint_is_of_the_last_step(compose: Compose, job_dir: Path) -> None:
    run(compose("application.checkpoint_every=5"), job_dir)  # 8 is not a multiple of 5
    assert torch.load(job_dir / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 8


def test_sigterm_ends_the_step_and_writes_a_checkpoint(
    compose: Compose,
    whole: Callable[..., dict[str, Any]],
    tmp_path: Path,
    interrupted: Callable[..., None],
) -> None:
    broken = tmp_path / "broken"
    interrupted(6, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(
        Preempted, match=r"stopped by SIGTERM after step 7; continue with resume=.*broken"
    ):
        run(compose(), broken)
    assert torch.load(broken / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 7
    assert status(broken)["state"] == "failed"
    assert "stopped by SIGTERM" in status(broken)["error"]
    run(compose(), broken, resuming=True)
    assert list(differences(whole(), result(broken))) == []


def test_a_full_disk_keeps_the_last_checkpoint(
    compose: Compose,
    whole: Callable[..., dict[str, Any]],
    tmp_path: Path,
    interrupted: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = tmp_path / "broken"
    full = raising(OSError(errno.ENOSPC, "No space left on device"))
    save = L.Trainer.save_checkpoint
    # The checkpoint of step 8 fails.
    interrupted(6, lambda: monkeypatch.setattr(L.Trainer, "save_checkpoint", full))
    with pytest.raises(
        OutputLost, match=r"the disk is full .*; free some space and continue with resume="
    ):
        run(compose(), broken)
    assert torch.load(broken / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4
    assert "the disk is full" in status(broken)["error"]
    monkeypatch.setattr(L.Trainer, "save_checkpoint", save)
    run(compose(), broken, resuming=True)
    assert list(differences(whole(), result(broken))) == []


def test_the_comparison_finds_one_bit() -> None:
    """Otherwise the tests above could not fail."""
    one = {"rows": [{"loss": "0.1"}], "weights": torch.zeros(3)}
    other = {"rows": [{"loss": "0.1"}], "weights": torch.tensor([0.0, 0.0, 1e-30])}
    assert list(differences(one, other)) == ["/weights"]
    assert list(differences({**one, "rows": []}, other)) == ["/rows", "/weights"]
