"""Sweeps whose processes are killed: every job counts, and no finished job is repeated.

The jobs count instead of training.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest

from tests.runs.counting_command import start
from tests.runs.sweep_results import modification_times, read_table, states

Start = Callable[..., "subprocess.Popen[bytes]"]
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Start]:
    """Start a counting command in `tmp_path`, which ends with the test."""
    processes = []

    def call(*arguments: str) -> subprocess.Popen[bytes]:
        processes.append(start(arguments, tmp_path))
        return processes[-1]

    yield call
    for process in processes:
        process.kill()
        process.wait()


def descendants(pid: int, word: str) -> list[int]:
    """Processes started by `pid`, or by those, whose command contains a word."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    processes = [
        (int(child), int(parent), args)
        for child, parent, args in (line.split(None, 2) for line in listed.splitlines())
    ]
    family = {pid}
    for _ in range(4):
        family |= {child for child, parent, _ in processes if parent in family}
    return [child for child, _, args in processes if child in family and word in args]


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[bytes]) -> Any:
    """The value of the condition once it is true; fails if the process ends before."""
    for _ in range(2400):
        if value := condition():
            return value
        assert process.poll() is None, "the process ended"
        time.sleep(0.05)
    raise AssertionError("the condition never became true")


def checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("sweeps/mine/*/*/checkpoints/last.ckpt"))


def starts(job_dir: Path) -> list[int]:
    return [int(line) for line in (job_dir / "starts.txt").read_text().split()]


def test_joblib_restarts_the_jobs_of_a_killed_worker(started: Start, tmp_path: Path) -> None:
    process = started("-m", "seed=0,1,2", "name=mine", *JOBLIB)
    wait_for(lambda: len(checkpoints(tmp_path)) == 2, process)
    workers = descendants(process.pid, "LokyProcess")
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    message = "a worker was killed; the 2 interrupted jobs are restarted, each alone\n"
    wait_for(lambda: message in (tmp_path / "stderr").read_text(), process)
    (tmp_path / "go").touch()
    assert process.wait(300) == 0
    (sweep,) = (tmp_path / "sweeps" / "mine").iterdir()
    assert states(sweep) == ["done"] * 3
    assert [starts(sweep / str(job)) for job in range(3)] == [[0, 1], [0, 1], [0]]
    threads = [
        json.loads((sweep / str(job) / "environment.json").read_text())["threads"]
        for job in range(3)
    ]
    assert threads == [str(max(joblib.cpu_count() // 2, 1))] * 3  # not all cores for each job


def test_joblib_workers_end_with_a_killed_sweep(started: Start, tmp_path: Path) -> None:
    process = started("-m", "seed=0,1", "name=mine", *JOBLIB)
    wait_for(lambda: len(checkpoints(tmp_path)) == 2, process)
    workers = descendants(process.pid, "LokyProcess")
    assert len(workers) == 2
    process.kill()
    process.wait()
    for _ in range(100):
        time.sleep(0.1)
        listed = subprocess.run(
            ["ps", "-o", "stat=", "-p", ",".join(map(str, workers))], capture_output=True, text=True
        ).stdout.split()
        if all(state.startswith("Z") for state in listed):
            return
    raise AssertionError("the workers still run")


def test_submitit_requeues_and_resumes_a_preempted_job(started: Start, tmp_path: Path) -> None:
    launcher = ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=60")
    process = started("-m", "conditioning.temperature=1,0", "name=mine", *launcher)
    (checkpoint,) = wait_for(lambda: checkpoints(tmp_path), process)
    job, sweep = checkpoint.parents[1], checkpoint.parents[2]
    (alone,) = wait_for(
        lambda: len(jobs := descendants(process.pid, "submitit.core._submit")) == 1 and jobs,
        process,
    )  # the other job is refused
    os.kill(alone, signal.SIGUSR2)  # SLURM sends it before it takes the machine away
    wait_for(lambda: len(starts(job)) == 2, process)
    (tmp_path / "go").touch()
    assert process.wait(300) == 2
    assert states(sweep) == ["done", "refused"]
    assert any("Requeued job" in path.read_text() for path in (sweep / ".submitit").rglob("*.out"))
    assert starts(job) == [0, 1]


def test_a_killed_search_continues_with_its_last_trial(started: Start, tmp_path: Path) -> None:
    command = ("-m", "+sweep=loss_weights", "name=mine", "hydra.sweeper.n_trials=2")
    sweep = tmp_path / "sweeps" / "mine" / "loss_weights"
    process = started(*command)
    (tmp_path / "go0").touch()
    wait_for((sweep / "1" / "checkpoints" / "last.ckpt").exists, process)
    process.kill()
    process.wait()
    jobs = json.loads((sweep / "sweep.json").read_text())["jobs"]
    assert len(jobs) == 2
    before = modification_times(sweep / "0")
    (tmp_path / "go").touch()
    assert started(*command).wait(300) == 0, (tmp_path / "stderr").read_text()
    assert states(sweep) == ["done", "done"]
    assert json.loads((sweep / "sweep.json").read_text())["jobs"] == jobs
    assert modification_times(sweep / "0") == before
    assert starts(sweep / "1") == [0, 1]
    best = max(float(row["best_metric"]) for row in read_table(sweep).values())
    assert f"best_value: {best}" in (sweep / "optimization_results.yaml").read_text()
