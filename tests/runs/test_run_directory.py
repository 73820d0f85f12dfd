"""A run directory: one writer at a time, and a status that says how the run ended."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from omegaconf import DictConfig

from netinv_lightning import metric_names as names
from netinv_lightning.errors import InputError, Preempted
from netinv_lightning.run import main, run
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.runs.run_failure import OutputLost
from tests.conftest import FEW_STEPS
from tests.runs.stops import status

Compose = Callable[..., DictConfig]


def test_ctrl_c_says_how_to_continue_without_a_traceback(
    job_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ctrl_c(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("netinv_lightning.applications.invert.evaluate", ctrl_c)
    monkeypatch.setattr("sys.argv", ["netinv", *FEW_STEPS, f"hydra.run.dir={job_dir}"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 130
    assert (
        capsys.readouterr().err.splitlines()[-1] == f"interrupted; continue with resume={job_dir}"
    )
    assert (
        status(job_dir)["error"]
        == f"KeyboardInterrupt: interrupted; continue with resume={job_dir}"
    )
    assert "Traceback" not in (job_dir / "run.log").read_text()


def test_sigterm_in_the_evaluation_says_how_to_continue(
    compose: Compose, job_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)  # the signal arrives here

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr("netinv_lightning.applications.invert.evaluate", stop)
        with pytest.raises(Preempted, match=rf"stopped by SIGTERM; continue with resume={job_dir}"):
            run(compose(), job_dir)
    assert signal.getsignal(signal.SIGTERM) is before
    assert status(job_dir)["state"] == "failed"
    assert run(compose(), job_dir, resuming=True)[names.INVERSION_ACCURACY] >= 0
    assert status(job_dir)["state"] == "done"


def test_a_full_disk_while_metrics_are_written(
    compose: Compose, job_dir: Path, interrupted: Callable[..., None]
) -> None:
    """A write to /dev/full fails as on a full disk."""

    def fill_up() -> None:
        (job_dir / "metrics.csv").rename(job_dir / "moved.csv")
        (job_dir / "metrics.csv").symlink_to("/dev/full")

    interrupted(6, fill_up)
    with pytest.raises(OutputLost, match="the disk is full"):
        run(compose(), job_dir)
    assert status(job_dir)["state"] == "failed"


def test_a_removed_directory_is_not_created_again(
    compose: Compose, job_dir: Path, interrupted: Callable[..., None]
) -> None:
    interrupted(2, lambda: shutil.rmtree(job_dir))
    with pytest.raises(OutputLost, match=r"was removed during the run"):
        run(compose(), job_dir)
    assert not job_dir.exists()


def test_two_runs_cannot_write_one_directory(
    compose: Compose, job_dir: Path, interrupted: Callable[..., None]
) -> None:
    """The second is refused while the first runs, also with resume; the first is finished."""
    refused = []

    def second() -> None:
        for resuming in (False, True):
            with pytest.raises(InputError) as error:
                run(compose(), job_dir, resuming=resuming)
            refused.append(str(error.value))

    interrupted(3, second)
    run(compose(), job_dir)
    assert "already contains a run" in refused[0]
    assert "another process is writing its run there" in refused[1]
    assert status(job_dir)["state"] == "done"
    assert not (job_dir / ".lock").exists()


def test_a_directory_held_by_another_process_is_refused(compose: Compose, job_dir: Path) -> None:
    job_dir.mkdir(parents=True)
    with (
        FileLock(job_dir / ".lock"),
        pytest.raises(InputError, match="another process is writing its run there"),
    ):
        run(compose(), job_dir)
    assert RunDir(job_dir).state is None


def test_a_damaged_status_counts_as_none(job_dir: Path) -> None:
    job_dir.mkdir(parents=True)
    (job_dir / "status.json").write_text('{"state": "do')
    assert RunDir(job_dir).state is None
