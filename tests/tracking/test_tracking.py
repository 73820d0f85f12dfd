"""Loggers: one W&B run per job, which continues if W&B fails; metrics.csv; TensorBoard."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import wandb
from omegaconf import DictConfig

import netinv_lightning
from netinv_lightning import metric_names as names
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.module import InversionModule
from netinv_lightning.run import run
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.tracking import wandb_run
from netinv_lightning.tracking.loggers import MetricsCsv, check_logger, open_loggers

Compose = Callable[..., DictConfig]
OFFLINE = ("logger=wandb", "logger.mode=offline")


def leet(folder: Path, *options: str) -> str:
    """Return the contents of a run's folder, read by W&B's own reader without network."""
    command = [Path(sys.executable).parent / "wandb", "leet", "inspect", folder, "--json", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def parts(run_dir: Path) -> list[dict[str, Any]]:
    """Return the offline parts of a run, oldest first: id, config, summary, exit code, tags."""
    folders = sorted(
        (run_dir / "wandb").glob("offline-run-*"), key=lambda folder: folder.stat().st_ctime_ns
    )
    return [json.loads(leet(folder, "--summary")) for folder in folders]


def records(run_dir: Path, kind: str) -> list[dict[str, Any]]:
    (folder,) = (run_dir / "wandb").glob("offline-run-*")
    return [
        record[kind]
        for record in map(json.loads, leet(folder).splitlines())
        if record["type"] == kind
    ]


def warnings_of_wandb(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "netinv_lightning" and "W&B" in record.getMessage()
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
    assert done["tags"] == ["night"]
    assert done["config"]["loss"]["kl"]["weight"] == 1
    assert done["summary"][names.INVERSION_ACCURACY] == metrics[names.INVERSION_ACCURACY]
    assert {names.LOSS_TOTAL, names.loss("kl"), names.INVERSION_ACCURACY_TRAIN} <= done[
        "summary"
    ].keys()

    (described,) = records(tmp_path / "a", "run")
    assert (described["run_group"], described["job_type"]) == ("invert", "invert")
    shown = [item["item"] for item in records(tmp_path / "a", "history")]
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


class Server(ThreadingHTTPServer):
    """Local replacement of the W&B server that answers only the given operations.

    Other requests get no answer. Without operations, the server refuses the login.
    """

    daemon_threads = True

    def __init__(self, *operations: str) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.operations, self.closing = operations, threading.Event()


class Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Server)
        content = self.rfile.read(int(self.headers.get("content-length") or 0))
        request = json.loads(content) if self.path == "/graphql" else {}
        name = request.get("variables", {}).get("name")
        project = {"id": "p", "name": "netinv", "entity": {"id": "e", "name": "me"}}
        answers = {
            "Viewer": {
                "viewer": {
                    "id": "u",
                    "entity": "me",
                    "username": "me",
                    "email": "",
                    "flags": "{}",
                    "teams": {"edges": []},
                }
            },
            "RunResumeStatus": {"model": {"id": "p", "name": "netinv", "bucket": None}},
            "UpsertBucket": {
                "upsertBucket": {
                    "bucket": {
                        "id": "b",
                        "name": name,
                        "config": "{}",
                        "project": project,
                        "historyLineCount": 0,
                    }
                }
            },
        }
        if not self.server.operations:
            self._answer(401, {"errors": [{"message": "user is not logged in"}]})
        elif request.get("operationName") in self.server.operations:
            self._answer(200, {"data": answers[request["operationName"]]})
        else:
            self.server.closing.wait(30)

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: object) -> None:
        """Discard messages of the server."""


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Return a function that sets W&B's address, with a well-formed key."""

    def point(url: str) -> None:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "3")
        monkeypatch.setattr(wandb_run, "INIT_SECONDS", 5.0)
        monkeypatch.setattr(wandb_run, "FINISH_SECONDS", 1.0)
        wandb.teardown()  # W&B reads its environment only once

    yield point
    monkeypatch.undo()
    wandb.teardown()


@pytest.fixture
def server(request: pytest.FixtureRequest, online: Callable[[str], None]) -> Iterator[Server]:
    server = Server(*request.param)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    online(f"http://127.0.0.1:{server.server_address[1]}")
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()


def log_one_row(cfg: DictConfig, job_dir: Path) -> RunDir:
    check_logger(cfg)
    run_dir = RunDir(job_dir)
    with run_dir.open(cfg), open_loggers(cfg, run_dir) as loggers:
        for logger in loggers:
            logger.log_metrics({names.INVERSION_ACCURACY: 0.5}, step=3)
    return run_dir


def assert_continued_offline(run_dir: RunDir, caplog: pytest.LogCaptureFixture) -> None:
    (part,) = parts(run_dir.path)
    assert run_dir.status["state"] == "done"
    assert part["exit_code"] == 0
    assert part["run_id"] == run_dir.status["wandb_run_id"]
    assert part["summary"][names.INVERSION_ACCURACY] == 0.5
    (warning,) = warnings_of_wandb(caplog)
    assert "it continues offline; to upload it later: wandb sync" in warning
    assert Path(warning.split()[-1]) == Path(part["file"]).parent


def test_a_run_continues_offline_without_connection(
    compose: Compose, job_dir: Path, online: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    online("http://127.0.0.1:9")
    assert_continued_offline(log_one_row(compose("logger=wandb"), job_dir), caplog)


@pytest.mark.parametrize("server", [("Viewer",)], indirect=True)
def test_a_run_continues_offline_if_wandb_does_not_open_it(
    compose: Compose, job_dir: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    assert_continued_offline(log_one_row(compose("logger=wandb"), job_dir), caplog)


@pytest.mark.parametrize("server", [("Viewer", "RunResumeStatus", "UpsertBucket")], indirect=True)
def test_an_endless_upload_does_not_block_the_run(
    compose: Compose, job_dir: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    run_dir = log_one_row(compose("logger=wandb"), job_dir)
    assert run_dir.status["state"] == "done"
    (warning,) = warnings_of_wandb(caplog)
    assert "could not finish the run" in warning
    folder = Path(warning.split()[-1])
    assert folder.name.startswith("run-")  # the run was online
    assert json.loads(leet(folder, "--summary"))["summary"][names.INVERSION_ACCURACY] == 0.5


@pytest.mark.parametrize("server", [()], indirect=True)
def test_a_failed_login_is_an_input_error(compose: Compose, server: Server) -> None:
    with pytest.raises(
        InputError,
        match=r"logger.mode=online: W&B refuses the login \(.*not logged in\); run `wandb login",
    ):
        check_logger(compose("logger=wandb"))


def test_a_malformed_key_is_an_input_error(
    compose: Compose, online: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    online("http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "short")
    with pytest.raises(InputError, match=r"logger.mode=online: .* 40\+ characters"):
        check_logger(compose("logger=wandb"))


def test_a_project_that_wandb_refuses_is_an_input_error(compose: Compose, job_dir: Path) -> None:
    run_dir = RunDir(job_dir)
    cfg = compose(*OFFLINE, "logger.project=a/b")
    with (
        run_dir.open(compose()),
        pytest.raises(InputError, match=r"logger=wandb: W&B refuses the run .*a/b"),
    ):
        with open_loggers(cfg, run_dir):
            pass


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
    assert warning.startswith("W&B: samples/grid left out (")
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


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_metrics_csv_gets_new_columns(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    logger = MetricsCsv(path)
    logger.log_metrics({"a": 1.0}, step=1)
    logger.log_metrics({"a": 2.0, "b": 3.0}, step=2)
    logger.log_metrics({"b": 4.0}, step=2)
    assert rows_of(path) == [
        {"step": "1", "a": "1.0", "b": ""},
        {"step": "2", "a": "2.0", "b": "3.0"},
        {"step": "2", "a": "", "b": "4.0"},
    ]


@pytest.mark.parametrize(
    "cut", ["", "7,0.1", '"7'], ids=["whole", "cut in a number", "cut in a quote"]
)
def test_a_resumed_run_has_each_step_once_in_metrics_csv(tmp_path: Path, cut: str) -> None:
    path = tmp_path / "metrics.csv"
    killed = MetricsCsv(path)
    for step in (1, 3, 5):
        killed.log_metrics({"a": step / 2}, step=step)
    with path.open("a") as file:
        file.write(cut)
    resumed = MetricsCsv(path)
    resumed.log_metrics({"a": 9.0}, step=3)  # its checkpoint is from step 2
    resumed.log_metrics({"b": 1.0}, step=5)
    assert rows_of(path) == [
        {"step": "1", "a": "0.5", "b": ""},
        {"step": "3", "a": "9.0", "b": ""},
        {"step": "5", "a": "", "b": "1.0"},
    ]


def test_a_resumed_nested_run_replaces_only_its_own_metrics(tmp_path: Path) -> None:
    """Kill the second of two trainings; the file equals that of an uninterrupted run."""

    def log(logger: MetricsCsv, name: str, steps: range) -> None:
        for step in steps:
            logger.log_metrics({f"{name}/loss": step / 4}, step=step)
            logger.log_metrics({f"{name}/accuracy": step / 8, "epoch": step // 2}, step=step)

    whole, broken = MetricsCsv(tmp_path / "whole.csv"), MetricsCsv(tmp_path / "broken.csv")
    for logger in (whole, broken):
        log(logger, "first", range(4))
        log(logger, "second", range(4, 6))
    log(whole, "second", range(6, 9))
    log(broken, "second", range(6, 7))
    resumed = MetricsCsv(tmp_path / "broken.csv")
    log(resumed, "second", range(5, 9))  # its checkpoint is from step 4
    for logger in (whole, resumed):
        logger.log_metrics({"seconds": 1.0}, step=0)
    again = MetricsCsv(tmp_path / "broken.csv")
    again.log_metrics({"seconds": 1.0}, step=0)  # killed after its last row
    assert (tmp_path / "broken.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


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
