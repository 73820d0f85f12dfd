"""W&B without a connection, with a silent server, and with wrong keys."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import wandb
from omegaconf import DictConfig

from netinv_lightning import metric_names as names
from netinv_lightning.errors import InputError
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.tracking import wandb_run
from netinv_lightning.tracking.loggers import check_logger, open_loggers
from tests.tracking.offline_runs import OFFLINE, Compose, leet, parts, warnings_of_wandb


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
