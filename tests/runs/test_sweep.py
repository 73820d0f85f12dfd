"""Sweeps: every job counts, none is done twice. In one process where that shows the same; as commands where processes die."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest
from filelock import FileLock
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from experiments.forked import Command
from netinv_lightning import run as entry
from netinv_lightning.applications.invert import InvertApplication
from netinv_lightning.errors import InputError
from netinv_lightning.runs import job_device
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.runs.sweep_directory import Sweep
from netinv_lightning.runs.sweep_table import sweep_rows, sweep_status
from tests.conftest import FEW_STEPS

LONG = [*FEW_STEPS, "application.steps=60", "application.checkpoint_every=5"]
Main = Callable[..., int]


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Main:
    """The `netinv` command in this process; gives its exit status."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["netinv", *arguments])
        with pytest.raises(SystemExit) as stopped:
            entry.main()
        return int(stopped.value.code or 0)

    return call


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Starts the command as a process of its own, which ends with the test."""
    processes = []

    def start(*arguments: str) -> Command:
        environment = dict(os.environ) | {"OMP_NUM_THREADS": "1"}
        if "hydra/launcher=joblib" in arguments:  # which divides the cores itself
            environment.pop("OMP_NUM_THREADS")
        outputs = {name: tmp_path / name for name in ("stdout", "stderr")}
        processes.append(Command(arguments, cwd=tmp_path, environment=environment, **outputs))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def table(sweep: Path) -> dict[int, dict[str, str]]:
    with (sweep / "sweep.csv").open() as file:
        return {int(row["job"]): row for row in csv.DictReader(file)}


def states(sweep: Path) -> list[str]:
    return [row["state"] for _, row in sorted(table(sweep).items())]


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


def descendants(pid: int, word: str) -> list[int]:
    """Processes that `pid` started, or that those started, with the word in their command."""
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


def wait_for(condition: Callable[[], Any], process: Command) -> Any:
    """What the condition gives once it is true; fails if the process ends before."""
    for _ in range(1200):
        if value := condition():
            return value
        assert process.poll() is None, "the process ended"
        time.sleep(0.1)
    raise AssertionError("it did not come about")


def test_failures_are_told_and_retry_runs_what_is_not_done(
    main: Main, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, made = InvertApplication.run, []

    def first_seed_1_fails(self: InvertApplication, run_dir: RunDir) -> dict[str, float]:
        made.append(self.cfg.seed)
        if made == [0, 1]:
            raise RuntimeError("of this\nkind")
        return run(self, run_dir)

    monkeypatch.setattr(InvertApplication, "run", first_seed_1_fails)
    assert main("-m", "seed=0,1", "conditioning.temperature=1,0", "name=mine", *FEW_STEPS) == 1
    (sweep,) = (tmp_path / "sweeps" / "mine").iterdir()
    shown = capfd.readouterr()
    assert shown.out.splitlines()[-1] == str(sweep)
    assert "job 2 failed: RuntimeError: of this kind" in shown.err
    assert "Traceback" not in shown.err
    rows = table(sweep)
    assert states(sweep) == ["done", "refused", "failed", "refused"]
    assert [(row["seed"], row["conditioning.temperature"]) for _, row in sorted(rows.items())] == [
        ("0", "1"), ("0", "0"), ("1", "1"), ("1", "0"),
    ]  # fmt: skip
    assert list(rows) == [0, 1, 3, 2]  # done first, failures last
    assert "name" not in rows[0]
    summary = json.loads((sweep / "0" / "summary.json").read_text())
    assert float(rows[0]["best_metric"]) == summary["inversion/accuracy"]
    assert float(rows[0]["inversion/accuracy_hot"]) == summary["inversion/accuracy_hot"]
    assert rows[2]["error"] == "RuntimeError: of this kind"
    assert rows[1]["error"] == "conditioning.temperature=0.0: must be above 0"
    assert "Traceback" in (sweep / "2" / "run.log").read_text()

    before = stamps(sweep / "0")
    assert main("retry", str(sweep)) == 2  # what is left was refused again
    assert made == [0, 1, 1]
    assert states(sweep) == ["done", "refused", "done", "refused"]
    assert stamps(sweep / "0") == before
    assert sorted(path.name for path in sweep.iterdir() if path.is_dir()) == ["0", "1", "2", "3"]


def test_joblib_starts_again_what_a_killed_worker_took_with_it(
    started: Callable[..., Command], tmp_path: Path
) -> None:
    process = started(
        "-m", "seed=0,1,2", "name=mine", *LONG, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"
    )
    checkpoint = "sweeps/mine/*/1/checkpoints/last.ckpt"
    (found,) = wait_for(lambda: list(tmp_path.glob(checkpoint)), process)
    workers = descendants(process.pid, "LokyProcess")
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    assert process.wait(300) == 0
    # Job 0 may have ended by then.
    assert re.search(
        r"a worker was killed; the [12] interrupted jobs are restarted, each alone",
        (tmp_path / "stderr").read_text(),
    )
    sweep = found.parents[2]
    assert states(sweep) == ["done"] * 3
    threads = [
        json.loads((sweep / str(job) / "environment.json").read_text())["threads"]
        for job in range(3)
    ]
    assert threads == [max(joblib.cpu_count() // 2, 1)] * 3  # not all cores to each


def test_joblib_workers_end_with_the_sweep_that_was_killed(
    started: Callable[..., Command], tmp_path: Path
) -> None:
    process = started(
        "-m",
        "seed=0,1",
        "name=mine",
        *LONG,
        "application.steps=100000",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
    )
    wait_for(
        lambda: len(list(tmp_path.glob("sweeps/mine/*/*/checkpoints/last.ckpt"))) == 2, process
    )
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
    raise AssertionError("the workers go on")


def test_submitit_puts_a_preempted_job_back_and_it_goes_on(
    started: Callable[..., Command], tmp_path: Path
) -> None:
    launcher = ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=60")
    process = started(
        "-m", "conditioning.temperature=1,0", "name=mine", *LONG, "application.steps=150", *launcher
    )
    (checkpoint,) = wait_for(
        lambda: list(tmp_path.glob("sweeps/mine/*/0/checkpoints/last.ckpt")), process
    )
    (alone,) = wait_for(
        lambda: len(jobs := descendants(process.pid, "submitit.core._submit")) == 1 and jobs,
        process,
    )  # one is refused
    os.kill(alone, signal.SIGUSR2)  # what SLURM sends before it takes the machine away
    assert process.wait(300) == 2
    sweep = checkpoint.parents[2]
    assert states(sweep) == ["done", "refused"]
    assert any("Requeued job" in path.read_text() for path in (sweep / ".submitit").rglob("*.out"))
    with (sweep / "0" / "metrics.csv").open() as file:
        steps = [row["step"] for row in csv.DictReader(file) if row["loss/total"]]
    assert len(steps) == len(set(steps)) == 75  # log_every=2: no step twice, none left out


def test_a_killed_search_goes_on_with_the_trial_that_it_was_at(
    started: Callable[..., Command], tmp_path: Path
) -> None:
    command = ("-m", "+sweep=loss_weights", "name=mine", *LONG, "hydra.sweeper.n_trials=2")
    sweep = tmp_path / "sweeps" / "mine" / "loss_weights"
    process = started(*command)
    wait_for((sweep / "1" / "checkpoints" / "last.ckpt").exists, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    jobs = json.loads((sweep / "sweep.json").read_text())["jobs"]
    before = stamps(sweep / "0")
    assert started(*command).wait(300) == 0, (tmp_path / "stderr").read_text()
    assert states(sweep) == ["done", "done"]
    assert json.loads((sweep / "sweep.json").read_text())["jobs"] == jobs
    assert stamps(sweep / "0") == before
    best = max(float(row["best_metric"]) for row in table(sweep).values())
    assert f"best_value: {best}" in (sweep / "optimization_results.yaml").read_text()


@pytest.mark.parametrize(("stop", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_sweep_still_has_its_table(
    stop: signal.Signals, status: int, started: Callable[..., Command], tmp_path: Path
) -> None:
    process = started("-m", "seed=0,1", "name=mine", *LONG)
    (checkpoint,) = wait_for(
        lambda: list(tmp_path.glob("sweeps/mine/*/0/checkpoints/last.ckpt")), process
    )
    process.send_signal(stop)
    assert process.wait(60) == status
    sweep = checkpoint.parents[2]
    assert states(sweep) == ["failed", "not run"]
    assert (tmp_path / "stdout").read_text().splitlines()[-1] == str(sweep)


REFUSED = {
    "generator=tiny,hugee": "generator=hugee: there is no such choice",
    "loss.cosin.weight=1,2": "loss.cosin.weight: there is no such key; did you mean 'loss.cosine.weight'?",
    "seed=0,1.5": "seed=1.5: must be a whole number",
    "resume=a,b": "resume=a: continues a single run, without -m",
    "+sweep=conditionin": "sweep=conditionin: there is no such choice; did you mean 'conditioning'?",
    "trainer=ddp": "trainer.strategy=ddp: would start the whole sweep again in every process; use trainer.strategy=ddp_spawn",
    "seed=range(3,3)": "seed=range(3,3): has no value",
}


@pytest.mark.parametrize("argument", REFUSED)
def test_a_sweep_that_cannot_be_is_refused_before_a_job_starts(
    argument: str, main: Main, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main("-m", argument) == 2
    shown = capfd.readouterr()
    assert shown.err.count("\n") == 1
    assert REFUSED[argument] in shown.err
    assert shown.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_search_of_no_existing_key_is_refused(
    main: Main, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine" / "sweep"
    folder.mkdir(parents=True)
    space = "# @package _global_\ndefaults: [loss_weights]\nhydra: {sweeper: {params: {loss.cosin.weight: 'interval(1, 2)'}}}\n"
    (folder / "own.yaml").write_text(space)
    assert main("-cd", str(tmp_path / "mine"), "-m", "+sweep=own") == 2
    assert (
        "loss.cosin.weight: there is no such key; did you mean 'loss.cosine.weight'?"
        in capfd.readouterr().err
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_sweep_config_without_m_is_refused(
    main: Main, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main("+sweep=conditioning") == 2
    assert capfd.readouterr().err == "error: +sweep=conditioning: is a sweep; add -m\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("argument", "choice", "extra"),
    [
        ("+sweep=loss_weights", "hydra/sweeper=optuna", "optuna"),
        ("hydra/launcher=joblib", "hydra/launcher=joblib", "sweep"),
        ("hydra/launcher=slurm", "hydra/launcher=submitit_slurm", "slurm"),
    ],
)
def test_a_missing_extra_is_named(
    argument: str,
    choice: str,
    extra: str,
    main: Main,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Plugins.instance()  # they store their configs when they are found
    _, group, name = choice.replace("=", "/").split("/")
    monkeypatch.delitem(ConfigStore.instance().repo["hydra"][group], f"{name}.yaml")
    assert main("-m", argument) == 2
    message = f"error: {choice}: is not installed; install the extra: pip install 'netinv_lightning[{extra}]'\n"
    assert capfd.readouterr().err == message


def test_retry_of_what_is_no_sweep(
    main: Main, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "sweep.json").write_text('{"command": [')
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text(
        '{"command": ["-m"], "overrides": [], "jobs": {}}'
    )
    cases = {
        (
            "nowhere",
        ): "nowhere: is not a sweep (it has no sweep.json); give a directory below sweeps/",
        (): "retry: the sweep is missing; give netinv retry SWEEP_DIRECTORY",
        ("damaged",): "sweep.json: is damaged",
        ("sweep", "seed=5"): "seed=5: would change the jobs of the sweep",
    }
    for arguments, message in cases.items():
        assert main("retry", *arguments) == 2
        shown = capfd.readouterr().err
        assert message in shown
        assert shown.count("\n") == 1


def test_one_directory_holds_one_sweep_of_one_process(tmp_path: Path) -> None:
    path = tmp_path / "sweeps" / "mine" / "now"
    first = Sweep(path, ["seed=0,1"])
    assert first.number_jobs([["seed=0"], ["seed=1"]]) == [0, 1]
    with pytest.raises(InputError, match="another process runs this sweep"):
        Sweep(path, ["seed=0,1"])
    first.close()
    with pytest.raises(
        InputError,
        match=r"contains another sweep \(seed=0,1\); continue that one with netinv retry",
    ):
        Sweep(path, ["seed=0,2"])
    again = Sweep(path, ["seed=0,1"])
    assert again.number_jobs([["seed=1"], ["seed=2"], ["seed=1"]]) == [
        1,
        2,
        3,
    ]  # its own place, a new one, and one for the twin
    again.close()


def test_a_place_that_holds_another_job_is_left_alone(main: Main, tmp_path: Path) -> None:
    place = f"hydra.sweep.dir={tmp_path}/here"
    assert main("-m", "seed=0", *FEW_STEPS, place) == 0
    status = json.loads((tmp_path / "here" / "0" / "status.json").read_text())
    (tmp_path / "here" / "0" / "status.json").write_text(json.dumps({**status, "state": "running"}))
    manifest = (tmp_path / "here" / "sweep.json").read_text()
    (tmp_path / "here" / "sweep.json").write_text(manifest.replace("seed=0", "seed=7"))
    before = stamps(tmp_path / "here" / "0")
    assert main("-m", "seed=7", *FEW_STEPS, place) == 2
    assert "0 contains another job (seed differ)" in table(tmp_path / "here")[0]["error"]
    assert stamps(tmp_path / "here" / "0") == before


def test_the_table_is_best_first_and_tells_the_dead_from_the_living(tmp_path: Path) -> None:
    known: dict[int, dict[str, Any]] = {
        0: {"state": "done", "best_metric": 0.5}, 1: {"state": "failed", "error": "x"}, 2: {"state": "running"}, 3: {},
        4: {"state": "done", "best_metric": 0.9}, 5: {"state": "running"}, 6: {"state": "failed", "refused": True},
    }  # fmt: skip
    for number, status in known.items():
        (tmp_path / str(number)).mkdir()
        if status:
            (tmp_path / str(number) / "status.json").write_text(json.dumps(status))
    jobs = {number: [f"+experiment=e{number % 2}", "generator=tiny"] for number in known}
    with FileLock(tmp_path / "5" / ".lock"):
        rows = sweep_rows(tmp_path, jobs, {})
    assert [(row["job"], row["state"]) for row in rows] == [
        (4, "done"), (0, "done"), (5, "running"), (3, "not run"), (2, "killed"), (6, "refused"), (1, "failed"),
    ]  # fmt: skip
    assert rows[0]["experiment"] == "e0"
    assert "generator" not in rows[0]


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        (["done"], 0),
        (["done", "refused"], 2),
        (["refused", "failed"], 1),
        (["done", "not run"], 1),
        (["killed"], 1),
    ],
)
def test_exit_status_of_a_sweep(ends: list[str], status: int) -> None:
    assert sweep_status([{"state": state} for state in ends]) == status


@pytest.mark.parametrize(("gpus", "devices"), [(0, 1), (2, [0])])
def test_one_per_job(
    gpus: int, devices: Any, compose: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_device, "_gpu_count", lambda: gpus)
    cfg = compose("trainer.devices=one_per_job")
    job_device.set_device(cfg)
    assert cfg.trainer.devices == devices
