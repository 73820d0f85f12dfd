"""Loggers: one W&B run a job, offline and without a login; metrics.csv whole; TensorBoard by config."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb
from omegaconf import DictConfig

from netinv_lightning.metrics import names
from netinv_lightning.run import run
from netinv_lightning.tracking import MetricsCsv

Compose = Callable[..., DictConfig]


def inspect(run_dir: Path) -> dict[str, Any]:
    """What an offline run holds, read by W&B's own reader."""
    (folder,) = (run_dir / "wandb").glob("offline-run-*")
    command = [Path(sys.executable).parent / "wandb", "leet", "inspect", folder, "--summary", "--json"]
    content: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return content


def test_two_jobs_of_one_process_are_two_runs_closed_with_their_status(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = run(compose("logger=wandb", "logger.mode=offline", "+logger.tags.night=true"), tmp_path / "a")
    monkeypatch.setattr("netinv_lightning.applications.invert.evaluate", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(compose("logger=wandb", "logger.mode=offline"), tmp_path / "b")
    assert wandb.run is None
    done, failed = inspect(tmp_path / "a"), inspect(tmp_path / "b")
    assert done["run_id"] != failed["run_id"]
    assert done["run_id"] == json.loads((tmp_path / "a" / "status.json").read_text())["wandb_run_id"]
    assert (done["exit_code"], failed["exit_code"]) == (0, 1)
    assert done["tags"] == ["night"]
    assert done["summary"][names.INVERSION_ACCURACY] == metrics[names.INVERSION_ACCURACY]
    assert {names.LOSS_TOTAL, names.loss("kl"), names.INVERSION_ACCURACY_TRAIN} <= done["summary"].keys()


def test_tensorboard_by_config(compose: Compose, job_dir: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    metrics = run(compose("logger=tensorboard"), job_dir)
    events = EventAccumulator(str(job_dir / "tensorboard"))
    events.Reload()
    assert events.Scalars(names.INVERSION_ACCURACY)[-1].value == pytest.approx(metrics[names.INVERSION_ACCURACY], rel=1e-6)


def test_metrics_csv_widens_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    MetricsCsv(path).log_metrics({"a": 1.0}, step=1)
    again = MetricsCsv(path)  # as a resumed run opens it
    again.log_metrics({"a": 2.0, "b": 3.0}, step=2)
    again.log_metrics({"b": 4.0}, step=3)
    with path.open() as file:
        assert list(csv.DictReader(file)) == [
            {"step": "1", "a": "1.0", "b": ""},
            {"step": "2", "a": "2.0", "b": "3.0"},
            {"step": "3", "a": "", "b": "4.0"},
        ]
