"""Commands in processes of their own that are killed or stopped, and continued by the user."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.forked import Command, run_command
from experiments.run_results import differences, result
from tests.conftest import FEW_STEPS
from tests.runs.stops import status
from tests.runs.sweep_results import read_table, states

STEPS = [
    *FEW_STEPS,
    "application.steps=30",
    "application.checkpoint_every=5",
    "application.grid_every=1000",
]


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Command]:
    """Start the command in `tmp_path`."""
    outputs = {name: tmp_path / name for name in ("stdout", "stderr")}
    return lambda *arguments: Command(arguments, cwd=tmp_path, **outputs)


def stop_after_checkpoint(process: Command, folder: Path, stop: signal.Signals) -> None:
    """Send a signal once there is a checkpoint; the training still has most of its steps."""
    for _ in range(12_000):
        if list(folder.rglob("last.ckpt")):
            break
        time.sleep(0.01)
    process.send_signal(stop)


def test_a_killed_run_is_resumed_by_the_command(
    start: Callable[..., Command], tmp_path: Path
) -> None:
    assert start(*STEPS, "output=whole").wait(timeout=300) == 0
    process = start(*STEPS, "output=broken")
    stop_after_checkpoint(process, tmp_path / "broken", signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    (whole,), (broken,) = (list((tmp_path / name).glob("*/*")) for name in ("whole", "broken"))
    assert status(broken)["state"] == "running"  # it had no time to record another state
    assert not (broken / "summary.json").exists()
    resumed = run_command([f"resume={broken}"], cwd=tmp_path, timeout=300)
    assert resumed.returncode == 0, resumed.stderr
    assert status(broken)["state"] == "done"
    assert list(differences(result(whole), result(broken))) == []


@pytest.mark.parametrize(("stop", "exit_status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_sweep_writes_its_table_and_is_retried(
    stop: signal.Signals, exit_status: int, start: Callable[..., Command], tmp_path: Path
) -> None:
    process = start("-m", "seed=0,1", "name=mine", *STEPS)
    stop_after_checkpoint(process, tmp_path / "sweeps", stop)
    assert process.wait(60) == exit_status
    (sweep,) = (tmp_path / "sweeps" / "mine").iterdir()
    assert states(sweep) == ["failed", "not run"]
    if stop == signal.SIGTERM:
        assert (tmp_path / "stderr").read_text().count("stopped by SIGTERM") == 1
    assert (tmp_path / "stdout").read_text().splitlines()[-1] == str(sweep)
    if stop == signal.SIGTERM:
        retried = run_command(["retry", str(sweep)], cwd=tmp_path, timeout=300)
        assert retried.returncode == 0, retried.stderr
        assert states(sweep) == ["done", "done"]
        for number, row in read_table(sweep).items():
            summary = json.loads((sweep / str(number) / "summary.json").read_text())
            assert float(row["best_metric"]) == summary["inversion/accuracy"]
