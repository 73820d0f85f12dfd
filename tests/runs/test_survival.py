"""Runs that are killed, preempted, short of disk, or robbed of their directory lose nothing and say so."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from filelock import FileLock
from omegaconf import DictConfig

from experiments.forked import Command, run_command
from experiments.run_results import differences, result
from netinv_lightning import metric_names as names
from netinv_lightning.errors import InputError, Preempted
from netinv_lightning.inversion.module import InversionModule
from netinv_lightning.run import main, run
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.runs.run_failure import OutputLost
from tests.conftest import FEW_STEPS

Compose = Callable[..., DictConfig]


def status(run_dir: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run_dir / "status.json").read_text())
    return content


def differing(whole: Path, broken: Path) -> list[str]:
    """Where two finished runs differ, in any bit but their times."""
    return list(differences(result(whole), result(broken)))


@pytest.fixture
def interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[int, Callable[[], None]], None]]:
    """Does something once, in the training step of the given number."""
    step = InversionModule.training_step

    def at(number: int, act: Callable[[], None]) -> None:
        def training_step(self: InversionModule, batch: Any, batch_idx: int) -> torch.Tensor:
            if self.global_step == number:
                monkeypatch.setattr(InversionModule, "training_step", step)
                act()
            return step(self, batch, batch_idx)

        monkeypatch.setattr(InversionModule, "training_step", training_step)

    yield at
    monkeypatch.setattr(InversionModule, "training_step", step)


def raised(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize(
    "extra",
    [
        (),
        ("n_generators=2",),
        ("loss=reconstruction", "generator.dropout=0.3", "application.log_every=3"),
    ],
)
@pytest.mark.parametrize("killed_at", [1, 5, 7])
def test_a_resumed_run_is_the_uninterrupted_one(
    compose: Compose,
    tmp_path: Path,
    interrupted: Callable[..., None],
    killed_at: int,
    extra: tuple[str, ...],
) -> None:
    """Weights, optimiser, schedule, streams, metrics and samples, bit by bit; killed before and after the checkpoint of step 4."""
    run(compose(*extra), tmp_path / "whole")
    interrupted(killed_at, raised(RuntimeError("killed")))
    with pytest.raises(RuntimeError, match="killed"):
        run(compose(*extra), tmp_path / "broken")
    assert (tmp_path / "broken" / "checkpoints" / "last.ckpt").exists() == (killed_at > 4)
    run(compose(*extra), tmp_path / "broken", resuming=True)
    assert differing(tmp_path / "whole", tmp_path / "broken") == []


def test_killed_in_the_middle_of_evaluation(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(compose(), tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(
            "netinv_lightning.applications.invert.evaluate", raised_by_any(RuntimeError("killed"))
        )
        with pytest.raises(RuntimeError, match="killed"):
            run(compose(), tmp_path / "broken")
    run(compose(), tmp_path / "broken", resuming=True)
    assert differing(tmp_path / "whole", tmp_path / "broken") == []


def raised_by_any(error: BaseException) -> Callable[..., None]:
    def act(*args: Any, **kwargs: Any) -> None:
        raise error

    return act


def test_the_last_checkpoint_is_of_the_last_step(compose: Compose, job_dir: Path) -> None:
    run(compose("application.checkpoint_every=5"), job_dir)  # which 8 is no multiple of
    assert torch.load(job_dir / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 8


def test_sigkill_and_resume_as_a_user_does_it(tmp_path: Path) -> None:
    """The process is killed by the system in the middle of training; the command resume= gives what was lost."""
    steps = [
        "application.steps=400",
        "application.checkpoint_every=20",
        "application.grid_every=1000",
    ]
    outputs = {name: tmp_path / name for name in ("stdout", "stderr")}
    for name in ("whole", "broken"):
        process = Command([*FEW_STEPS, *steps, f"output={name}"], cwd=tmp_path, **outputs)
        if name == "whole":
            assert process.wait(timeout=300) == 0
            continue
        end = time.monotonic() + 120
        while (
            not list(tmp_path.glob("broken/*/*/checkpoints/last.ckpt")) and time.monotonic() < end
        ):
            time.sleep(0.01)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    (whole,), (broken,) = (list((tmp_path / name).glob("*/*")) for name in ("whole", "broken"))
    assert status(broken)["state"] == "running"  # it had no chance to say anything else
    assert not (broken / "summary.json").exists()
    resumed = run_command([f"resume={broken}"], cwd=tmp_path, timeout=300)
    assert resumed.returncode == 0, resumed.stderr
    assert status(broken)["state"] == "done"
    assert differing(whole, broken) == []


def test_sigterm_lets_the_step_end_checkpoints_and_says_how_to_go_on(
    compose: Compose, tmp_path: Path, interrupted: Callable[..., None]
) -> None:
    run(compose(), tmp_path / "whole")
    interrupted(6, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(
        Preempted, match=r"stopped by SIGTERM after step 7; continue with resume=.*broken"
    ):
        run(compose(), tmp_path / "broken")
    assert (
        torch.load(tmp_path / "broken" / "checkpoints" / "last.ckpt", weights_only=True)[
            "global_step"
        ]
        == 7
    )
    assert status(tmp_path / "broken")["state"] == "failed"
    assert "stopped by SIGTERM" in status(tmp_path / "broken")["error"]
    run(compose(), tmp_path / "broken", resuming=True)
    assert differing(tmp_path / "whole", tmp_path / "broken") == []


def test_ctrl_c_says_how_to_go_on_and_is_no_traceback(
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


def test_sigterm_while_evaluating_says_how_to_go_on(
    compose: Compose, job_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told_to_stop(*args: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)  # the signal arrives here

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr("netinv_lightning.applications.invert.evaluate", told_to_stop)
        with pytest.raises(Preempted, match=rf"stopped by SIGTERM; continue with resume={job_dir}"):
            run(compose(), job_dir)
    assert signal.getsignal(signal.SIGTERM) is before
    assert status(job_dir)["state"] == "failed"
    assert run(compose(), job_dir, resuming=True)[names.INVERSION_ACCURACY] >= 0
    assert status(job_dir)["state"] == "done"


def test_a_full_disk_keeps_the_last_checkpoint_and_the_run_goes_on_later(
    compose: Compose,
    tmp_path: Path,
    interrupted: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(compose(), tmp_path / "whole")
    broken = tmp_path / "broken"
    full = raised_by_any(OSError(errno.ENOSPC, "No space left on device"))
    save = L.Trainer.save_checkpoint
    interrupted(
        6, lambda: monkeypatch.setattr(L.Trainer, "save_checkpoint", full)
    )  # the checkpoint of step 8
    with pytest.raises(
        OutputLost, match=r"the disk is full .*; free some space and continue with resume="
    ):
        run(compose(), broken)
    assert torch.load(broken / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4
    assert "the disk is full" in status(broken)["error"]
    monkeypatch.setattr(L.Trainer, "save_checkpoint", save)
    run(compose(), broken, resuming=True)
    assert differing(tmp_path / "whole", broken) == []


def test_a_full_disk_while_metrics_are_written(
    compose: Compose, job_dir: Path, interrupted: Callable[..., None]
) -> None:
    """Whatever is written to /dev/full fails as on a full disk."""

    def fill_up() -> None:
        (job_dir / "metrics.csv").rename(job_dir / "kept.csv")
        (job_dir / "metrics.csv").symlink_to("/dev/full")

    interrupted(6, fill_up)
    with pytest.raises(OutputLost, match="the disk is full"):
        run(compose(), job_dir)
    assert status(job_dir)["state"] == "failed"


def test_a_removed_directory_is_told_and_not_made_again(
    compose: Compose, job_dir: Path, interrupted: Callable[..., None]
) -> None:
    interrupted(2, lambda: shutil.rmtree(job_dir))
    with pytest.raises(OutputLost, match=r"was removed during the run"):
        run(compose(), job_dir)
    assert not job_dir.exists()


def test_two_runs_cannot_write_one_directory(
    compose: Compose, job_dir: Path, interrupted: Callable[..., None]
) -> None:
    """The second is refused while the first is going, also where it would resume it; the first ends well."""
    refused = []

    def second() -> None:
        for resuming in (False, True):
            with pytest.raises(InputError) as error:
                run(compose(), job_dir, resuming=resuming)
            refused.append(str(error.value))

    interrupted(3, second)
    run(compose(), job_dir)
    assert "contains a run already" in refused[0]
    assert "another process is writing its run there" in refused[1]
    assert status(job_dir)["state"] == "done"
    assert not (job_dir / ".lock").exists()


def test_a_directory_that_another_process_has_just_taken_is_refused(
    compose: Compose, job_dir: Path
) -> None:
    job_dir.mkdir(parents=True)
    with (
        FileLock(job_dir / ".lock"),
        pytest.raises(InputError, match="another process is writing its run there"),
    ):
        run(compose(), job_dir)
    assert RunDir(job_dir).state is None


def test_damaged_status_counts_as_none(job_dir: Path) -> None:
    job_dir.mkdir(parents=True)
    (job_dir / "status.json").write_text('{"state": "do')
    assert RunDir(job_dir).state is None


def test_the_comparison_finds_one_bit() -> None:
    """Else all of the above could not fail."""
    one = {"rows": [{"loss": "0.1"}], "weights": torch.zeros(3)}
    other = {"rows": [{"loss": "0.1"}], "weights": torch.tensor([0.0, 0.0, 1e-30])}
    assert list(differences(one, other)) == ["/weights"]
    assert list(differences({**one, "rows": []}, other)) == ["/rows", "/weights"]
