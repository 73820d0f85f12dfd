"""Loggers: one W&B run per job, which continues if W&B fails; metrics.csv; TensorBoard."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import wandb

import netinv_lightning
from netinv_lightning import metric_names as names
from netinv_lightning.inversion.module import InversionModule
from netinv_lightning.run import run
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.tracking import wandb_run
from netinv_lightning.tracking.loggers import open_loggers
from tests.tracking.offline_runs import OFFLINE, Compose, leet, parts, warnings_of_wandb


def records(run_dir: Path, kind: str) -> list[dict[str, Any]]:
    (folder,) = (run_dir / "wandb").glob("offline-run-*")
    return [
        record[kind]
        for record in map(json.loads, leet(folder).splitlines())
        if record["type"] == kind
    ]


def test_jobs_of_one_process_are_separate_runs(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = run(
        compose(*OFFLINE, "+logger.tags.night=true", "application.grid_every=4"), tmp_path / "a"
    )
    monkeypatch.setattr("netinv_lightning.applications.invert.evaluate", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(compose(*OFFLINE), tmp_path / "b")
    assert wandb.run is None
    (done,), (failed,) = parts(tmp_path / "a"), parts(tmp_path / "b")
    assert done["run_id"] != failed["run_id"]
    assert (
        done["run_id"] == json.loads((tmp_path / "a" / "status.json").read_text())["wandb_run_id"]
    )
    assert (done["exit_code"], failed["exit_code"]) == (0, 1)
    verdict = json.loads((tmp_path / "a" / "verdict.json").read_text())["verdict"]
    assert done["summary"]["verdict"] == verdict
    assert done["tags"] == ["night", f"verdict: {verdict}"]
    assert done["config"]["derived"] == {
        "num_classes": 10,
        "channels": 1,
        "mean": [pytest.approx(0.1307)],
        "std": [pytest.approx(0.3081)],
    }
    assert done["config"]["loss"]["kl"]["weight"] == 1
    assert done["summary"][names.INVERSION_ACCURACY] == metrics[names.INVERSION_ACCURACY]
    assert {names.LOSS_TOTAL, names.loss("kl"), names.INVERSION_ACCURACY_TRAIN} <= done[
        "summary"
    ].keys()

    *_, described = records(tmp_path / "a", "run")  # again when verdict and facts are added
    assert (described["run_group"], described["job_type"]) == ("invert", "invert")
    shown = [item["item"] for item in records(tmp_path / "a", "history")]
    assert not [name for item in shown for name in item if name.startswith(names.COST)]
    costs = {name: value for name, value in metrics.items() if name.startswith(names.COST)}
    assert costs
    assert costs.items() <= done["summary"].items()
    assert [item[names.STEP] for item in shown if f"{names.SAMPLES_GRID}._type" in item] == [
        4,
        8,
        8,
    ]
    assert done["summary"][names.INVERSION_CONFUSION]["_type"] == "image-file"
    assert (
        done["summary"][names.SAMPLES_TABLE]["nrows"],
        done["summary"][names.SAMPLES_TABLE]["ncols"],
    ) == (16, 4)
    artifacts = {artifact["type"]: artifact for artifact in records(tmp_path / "a", "artifact")}
    files = [
        Path(entry["local_path"])
        for artifact in artifacts.values()
        for entry in artifact["manifest"]["contents"]
    ]
    assert tmp_path / "a" / "checkpoints" / "last.ckpt" in files
    assert "generator" in artifacts
    # No file is written to the home directory.
    assert all(file.is_relative_to(tmp_path / "a") and file.is_file() for file in files)


def test_the_samples_table_has_label_and_prediction(compose: Compose, job_dir: Path) -> None:
    run(compose(*OFFLINE, "application.keep_samples=60"), job_dir)
    (path,) = (job_dir / "wandb").rglob("*.table.json")
    table = json.loads(path.read_text())
    assert table["columns"] == ["image", "conditioned on", "predicted", "confidence"]
    assert len(table["data"]) == 50
    assert {row[1] for row in table["data"]} | {row[2] for row in table["data"]} <= set(
        "0123456789"
    )
    assert all(0.1 <= row[3] <= 1 for row in table["data"])  # the largest of ten probabilities


@pytest.mark.parametrize(
    ("overrides", "folder", "expected"),
    [
        ([], "runs/mnist/20260101-000000-000000", "invert"),
        ([], "sweeps/mnist/20260101-000000-000000/7", "mnist/20260101-000000-000000"),
        (["sweep_output=elsewhere"], "elsewhere/mnist/20260101/0", "mnist/20260101"),
        (["sweep_output=elsewhere"], "sweeps/mnist/20260101/0", "invert"),
        (["logger.group=mine"], "sweeps/mnist/20260101/0", "mine"),
    ],
)
def test_the_jobs_of_a_sweep_share_a_group(
    compose: Compose, overrides: list[str], folder: str, expected: str
) -> None:
    assert wandb_run.group(compose(*overrides), Path(folder)) == expected


def test_a_resumed_run_keeps_its_id_offline(
    compose: Compose, job_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("netinv_lightning.applications.invert.evaluate", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(compose(*OFFLINE), job_dir)
    metrics = run(compose(*OFFLINE), job_dir, resuming=True)
    first, second = parts(job_dir)
    assert (
        first["run_id"]
        == second["run_id"]
        == json.loads((job_dir / "status.json").read_text())["wandb_run_id"]
    )
    assert (first["exit_code"], second["exit_code"]) == (1, 0)
    assert second["summary"][names.INVERSION_ACCURACY] == metrics[names.INVERSION_ACCURACY]


def wandb_core() -> subprocess.Popen[bytes]:
    """Return W&B's service process, which has no public API."""
    service: Any = wandb.setup().ensure_service()
    process: subprocess.Popen[bytes] = service._proc._process
    return process


def test_training_survives_the_death_of_wandb(
    compose: Compose,
    job_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def kill(module: InversionModule, *args: object) -> None:
        if module.global_step == 4:
            core = wandb_core()
            core.kill()
            core.wait()

    monkeypatch.setattr(InversionModule, "on_train_batch_end", kill)
    metrics = run(compose(*OFFLINE), job_dir)
    assert json.loads((job_dir / "status.json").read_text())["state"] == "done"
    with (job_dir / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows if row[names.LOSS_TOTAL]] == ["1", "3", "5", "7"]
    (warning,) = warnings_of_wandb(caplog)
    assert "wandb sync" in warning
    lost, reopened = parts(job_dir)
    assert lost["exit_code"] is None
    assert reopened["exit_code"] == 0
    assert reopened["run_id"] == json.loads((job_dir / "status.json").read_text())["wandb_run_id"]
    assert reopened["summary"][names.INVERSION_ACCURACY] == metrics[names.INVERSION_ACCURACY]
    assert Path(warning.split()[-1]) == Path(reopened["file"]).parent


def test_refused_items_are_left_out_with_one_warning(
    compose: Compose, job_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = compose(*OFFLINE)
    run_dir = RunDir(job_dir)
    with run_dir.open(cfg), open_loggers(cfg, run_dir) as (_, logger):
        assert isinstance(logger, wandb_run.WandbRun)
        for step in (1, 2):
            logger.log(names.SAMPLES_GRID, lambda: wandb.Image("gone.png"), step)
        logger.log_metrics({names.INVERSION_ACCURACY: 0.5}, step=3)
    (warning,) = warnings_of_wandb(caplog)
    assert warning.startswith("W&B: samples/grid is not logged (")
    (part,) = parts(job_dir)
    assert part["summary"][names.INVERSION_ACCURACY] == 0.5


def test_tensorboard_by_config(compose: Compose, job_dir: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    metrics = run(compose("logger=tensorboard", "application.grid_every=4"), job_dir)
    events = EventAccumulator(str(job_dir / "tensorboard"))
    events.Reload()
    assert events.Scalars(names.INVERSION_ACCURACY)[-1].value == pytest.approx(
        metrics[names.INVERSION_ACCURACY], rel=1e-6
    )
    assert [image.step for image in events.Images(names.SAMPLES_GRID)] == [4, 8, 8]
    assert [image.step for image in events.Images(names.INVERSION_CONFUSION)] == [8]


def test_a_trained_classifier_is_an_artifact(job_dir: Path) -> None:
    cfg = netinv_lightning.compose(
        [
            "application=train_classifier",
            "data=mnist5k",
            "data.subset_size=200",
            "classifier=mlp",
            "recipe.epochs=1",
            *OFFLINE,
        ]
    )
    metrics = run(cfg, job_dir)
    (artifact,) = records(job_dir, "artifact")
    assert artifact["type"] == "classifier"
    assert {entry["path"] for entry in artifact["manifest"]["contents"]} == {
        "classifier.safetensors",
        "classifier.json",
    }
    (part,) = parts(job_dir)
    assert part["summary"][names.CLASSIFIER_TEST_ACCURACY] == pytest.approx(
        metrics[names.CLASSIFIER_TEST_ACCURACY]
    )
