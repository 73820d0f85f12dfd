"""Sweeps in one process: numbers, failures, retries and the table.

The jobs count instead of training.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from netinv_lightning.errors import InputError
from netinv_lightning.runs import job_device
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.runs.sweep_directory import Sweep
from netinv_lightning.runs.sweep_table import sweep_rows, sweep_status
from tests.runs import counting_command
from tests.runs.sweep_results import modification_times, read_table, states

Netinv = Callable[..., int]


def test_failures_are_reported_and_retry_runs_unfinished_jobs(
    netinv: Netinv,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save, started = counting_command.save, []

    def job_2_fails_once(step: int, run_dir: RunDir) -> None:
        if step == 1:
            started.append(run_dir.path.name)
        if started == ["0", "2"]:
            raise RuntimeError("of this\nkind")
        save(step, run_dir)

    monkeypatch.setattr(counting_command, "save", job_2_fails_once)
    assert netinv("-m", "seed=0,1", "conditioning.temperature=1,0", "name=mine") == 1
    (sweep,) = (tmp_path / "sweeps" / "mine").iterdir()
    printed = capfd.readouterr()
    assert printed.out.splitlines()[-1] == str(sweep)
    assert "job 2 failed: RuntimeError: of this kind" in printed.err
    assert "Traceback" not in printed.err
    rows = read_table(sweep)
    assert states(sweep) == ["done", "refused", "failed", "refused"]
    assert [(row["seed"], row["conditioning.temperature"]) for _, row in sorted(rows.items())] == [
        ("0", "1"),
        ("0", "0"),
        ("1", "1"),
        ("1", "0"),
    ]
    assert list(rows) == [0, 1, 3, 2]  # done first, failures last
    assert "name" not in rows[0]
    summary = json.loads((sweep / "0" / "summary.json").read_text())
    assert float(rows[0]["best_metric"]) == summary["inversion/accuracy"]
    assert float(rows[0]["inversion/accuracy_hot"]) == summary["inversion/accuracy_hot"]
    assert rows[2]["error"] == "RuntimeError: of this kind"
    assert rows[1]["error"] == "conditioning.temperature=0.0: must be above 0"
    assert "Traceback" in (sweep / "2" / "run.log").read_text()

    before = modification_times(sweep / "0")
    assert netinv("retry", str(sweep)) == 2  # the jobs that are left are refused again
    assert started == ["0", "2", "2"]
    assert states(sweep) == ["done", "refused", "done", "refused"]
    assert modification_times(sweep / "0") == before
    assert sorted(path.name for path in sweep.iterdir() if path.is_dir()) == ["0", "1", "2", "3"]


def test_one_directory_has_one_sweep_of_one_process(tmp_path: Path) -> None:
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
    ]  # its own number, a new one, and one for the second equal job
    again.close()


def test_a_directory_with_another_job_is_not_changed(netinv: Netinv, tmp_path: Path) -> None:
    directory = f"hydra.sweep.dir={tmp_path}/here"
    assert netinv("-m", "seed=0", directory) == 0
    status = json.loads((tmp_path / "here" / "0" / "status.json").read_text())
    (tmp_path / "here" / "0" / "status.json").write_text(json.dumps({**status, "state": "running"}))
    manifest = (tmp_path / "here" / "sweep.json").read_text()
    (tmp_path / "here" / "sweep.json").write_text(manifest.replace("seed=0", "seed=7"))
    before = modification_times(tmp_path / "here" / "0")
    assert netinv("-m", "seed=7", directory) == 2
    assert "0 contains another job (seed differ)" in read_table(tmp_path / "here")[0]["error"]
    assert modification_times(tmp_path / "here" / "0") == before


def test_the_table_is_best_first_and_separates_killed_jobs(tmp_path: Path) -> None:
    known: dict[int, dict[str, Any]] = {
        0: {"state": "done", "best_metric": 0.5},
        1: {"state": "failed", "error": "x"},
        2: {"state": "running"},
        3: {},
        4: {"state": "done", "best_metric": 0.9},
        5: {"state": "running"},
        6: {"state": "failed", "refused": True},
    }
    for number, status in known.items():
        (tmp_path / str(number)).mkdir()
        if status:
            (tmp_path / str(number) / "status.json").write_text(json.dumps(status))
    jobs = {number: [f"+experiment=e{number % 2}", "generator=tiny"] for number in known}
    with FileLock(tmp_path / "5" / ".lock"):
        rows = sweep_rows(tmp_path, jobs, {})
    assert [(row["job"], row["state"]) for row in rows] == [
        (4, "done"),
        (0, "done"),
        (5, "running"),
        (3, "not run"),
        (2, "killed"),
        (6, "refused"),
        (1, "failed"),
    ]
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
