"""Tasks of the base class before and after the computation of an application."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

import netinv_lightning
from netinv_lightning.applications import make_application
from netinv_lightning.applications.base import Application
from netinv_lightning.config.application_schema import APPLICATION_KEYS
from netinv_lightning.data.specs import SPECS
from netinv_lightning.errors import InputError
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.runs.tables import Table
from netinv_lightning.tracking.result import Figure, Result
from netinv_lightning.tracking.run_context import RunContext

TABLE = Table("Scores", ["set", "score"], [["a", 0.25]])


class Example(Application):
    """Application that returns the given result."""

    best_metric = "example/score"

    def __init__(self, cfg: DictConfig, result: Result | Exception) -> None:
        self.checked = False
        self.result = result
        super().__init__(cfg)

    def check(self) -> None:
        self.checked = True

    def compute(self, run: RunContext) -> Result:
        self.device = run.device
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def config(*overrides: str) -> DictConfig:
    return netinv_lightning.compose(["trainer.accelerator=cpu", *overrides])


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    (tmp_path / "run").mkdir()
    return RunDir(tmp_path / "run")


def logged(run_dir: RunDir) -> list[dict[str, str]]:
    with (run_dir.path / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("logger.name=csw", "logger.name=csw: did you mean 'csv'"),
        ("trainer.devices=2", "trainer.devices=2: application=invert runs in one process only"),
    ],
)
def test_logger_and_trainer_are_checked_first(override: str, message: str) -> None:
    checked = []

    class Recording(Example):
        def check(self) -> None:
            checked.append(True)

    with pytest.raises(InputError, match=message):
        Recording(config(override), Result({}))
    assert checked == []


def test_metrics_are_logged_at_their_step_and_returned(run_dir: RunDir) -> None:
    application = Example(config(), Result({"example/score": 0.25}, step=7))
    assert application.checked
    assert application.run(run_dir) == {"example/score": 0.25}
    assert logged(run_dir) == [{"step": "7", "example/score": "0.25"}]
    assert application.device == torch.device("cpu")


def test_without_a_step_metrics_are_only_returned(run_dir: RunDir) -> None:
    application = Example(config(), Result({"example/score": 0.25}, step=None))
    assert application.run(run_dir) == {"example/score": 0.25}
    assert list(run_dir.path.iterdir()) == []


def test_each_kind_of_table_is_written_and_printed(
    run_dir: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    full = Table("", ["set", "score", "spread"], [["a", 0.25, 0.5]])
    printed = Table("Printed", ["set", "score"], [["a", 0.25]], full=full)
    result = Result(
        {}, tables={"one": printed}, unprinted={"two": TABLE}, lists={"three": TABLE}, lines=["end"]
    )
    Example(config(), result).run(run_dir)
    files = {path.name for path in run_dir.path.iterdir()}
    assert files == {"one.md", "one.csv", "two.md", "two.csv", "three.csv", "metrics.csv"}
    assert (run_dir.path / "one.csv").read_text() == "set,score,spread\na,0.25,0.5\n"
    assert (run_dir.path / "three.csv").read_text() == "set,score\na,0.25\n"
    output = capsys.readouterr().out
    assert "Printed" in output
    assert "Scores" not in output
    assert output.splitlines()[-2:] == ["end", f"report: netinv report {run_dir.path}"]


def test_figures_are_logged_under_their_file_names(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = []
    monkeypatch.setattr(
        "netinv_lightning.tracking.result.log_image",
        lambda loggers, *values: images.append(values),
    )
    path = run_dir.figures / "scores.png"
    figures = [Figure(path, "all scores"), Figure(path, "the same", "samples/grid")]
    Example(config(), Result({}, step=3, figures=figures)).run(run_dir)
    assert images == [
        ("figures/scores", path, 3, "all scores"),
        ("samples/grid", path, 3, "the same"),
    ]


def test_a_failure_is_raised_after_everything_is_written(run_dir: RunDir) -> None:
    result = Result({"example/score": 1.0}, tables={"scores": TABLE}, failure="1 of 2 jobs failed")
    with pytest.raises(RuntimeError, match=r"^1 of 2 jobs failed$"):
        Example(config(), result).run(run_dir)
    assert (run_dir.path / "scores.md").is_file()
    assert logged(run_dir) == [{"step": "0", "example/score": "1.0"}]


@pytest.mark.parametrize("failing", [True, False])
def test_wandb_run_ends_with_the_status_of_the_run(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch, failing: bool
) -> None:
    statuses = []

    class Recorder:
        def __init__(self, cfg: DictConfig, run_dir: RunDir) -> None: ...

        def log_metrics(self, metrics: dict[str, float], step: int) -> None:
            if failing:
                raise OSError("no space")

        def describe(self, facts: dict[str, object], verdict: str) -> None:
            assert (facts, verdict) == ({}, "")

        def finish(self, status: int) -> None:
            statuses.append(status)

    monkeypatch.setattr("netinv_lightning.tracking.loggers.WandbRun", Recorder)
    application = Example(config("logger=wandb", "logger.mode=offline"), Result({}))
    if failing:
        with pytest.raises(OSError, match="no space"):
            application.run(run_dir)
    else:
        application.run(run_dir)
    assert statuses == [int(failing)]


def test_other_processes_compute_but_write_nothing(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    result = Result({"example/score": 0.5}, tables={"scores": TABLE}, lines=["end"])
    assert Example(config(), result).run(run_dir) == {"example/score": 0.5}
    assert list(run_dir.path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_classifier_is_trained_before_the_clock_starts(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []

    class Trained(Example):
        def check(self) -> None:
            self.classifier = SimpleNamespace(spec=SPECS["mnist"])  # type: ignore[assignment]

        def compute(self, run: RunContext) -> Result:
            events.append("computed")
            assert run.seconds < 60
            return Result({"example/score": 1.0})

    def train_once(cfg: DictConfig, classifier: object, path: Path) -> dict[str, float]:
        events.append("trained")
        monkeypatch.setattr("time.perf_counter", lambda: 1e6)
        return {"classifier/test_accuracy": 0.75}

    monkeypatch.setattr("netinv_lightning.applications.base.train_once", train_once)
    metrics = Trained(config(), Result({})).run(run_dir)
    assert events == ["trained", "computed"]
    assert metrics == {"classifier/test_accuracy": 0.75, "example/score": 1.0}


def test_snapshots_of_a_resumed_run_continue(run_dir: RunDir) -> None:
    for resuming in (False, True):
        directory = RunDir(run_dir.path, resuming)
        snapshots = RunContext(config(), directory).snapshots("student", every=5)
        assert snapshots.path == run_dir.path / "checkpoints" / "student.ckpt"
        assert (snapshots.resuming, snapshots.every) == (resuming, 5)


@pytest.mark.parametrize("name", [name for name in APPLICATION_KEYS])
def test_every_name_of_the_schema_has_an_application(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Application, "__init__", lambda self, cfg: None)
    cfg = OmegaConf.create({"application": {"name": name}})
    application = make_application(cfg)
    assert isinstance(application, Application)
    assert application.best_metric
    assert type(application).__module__ == f"netinv_lightning.applications.{name}"


def test_an_unknown_application_gets_a_suggestion() -> None:
    cfg = OmegaConf.create({"application": {"name": "invrt"}})
    with pytest.raises(InputError, match=r"application.name=invrt: did you mean 'invert'"):
        make_application(cfg)


def test_a_result_includes_that_of_a_nested_run() -> None:
    result = Result({"a": 1.0, "b": 2.0}, step=5, tables={"one": TABLE}, lines=["first"])
    result.include(Result({"b": 3.0}, unprinted={"two": TABLE}, lines=["second"]))
    assert result.metrics == {"a": 1.0, "b": 3.0}
    assert (result.step, list(result.tables), list(result.unprinted)) == (5, ["one"], ["two"])
    assert result.lines == ["first", "second"]
