"""`netinv report`: contents of the page for runs in every state, and invalid input."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from omegaconf import DictConfig

from netinv_lightning.html_report.command import main, read
from netinv_lightning.html_report.curves import read_charts
from netinv_lightning.html_report.files import Folder
from netinv_lightning.html_report.run_contents import read_run
from netinv_lightning.html_report.sweep_contents import read_sweep
from netinv_lightning.run import run
from netinv_lightning.runs.run_directory import RunDir
from tests.html_report.made_runs import Elements, files_of, made_run, made_sweep, page_of


def test_the_command_writes_the_page_of_a_real_run(
    compose: Callable[..., DictConfig], job_dir: Path
) -> None:
    few = ["generator=tiny", "application.steps=8", "application.grid_every=4"]
    run(compose("+experiment=mnist_invert", *few), job_dir)
    before = files_of(job_dir)
    latest = job_dir.parents[1] / "latest"
    command = [sys.executable, "-m", "netinv_lightning.run", "report", str(latest)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == str(job_dir / "report.html")
    after = files_of(job_dir)
    after.pop("report.html")
    assert after == before

    page = Elements((job_dir / "report.html").read_text())
    verdict = json.loads((job_dir / "verdict.json").read_text())
    assert f"Verdict: {verdict['verdict']}" in page.text
    assert "mnist_cnn (zoo)" in page.text
    figures = list((job_dir / "figures").glob("*.png"))
    shown = [
        image
        for image in page.each("img")
        if image.get("src", "").startswith("data:image/webp;base64,")
    ]
    # the grid, two grids of the training, the confusion matrix
    assert len(figures) == len(shown) == 4
    assert all(image["alt"] for image in shown)
    summary = json.loads((job_dir / "summary.json").read_text())
    values = [attributes.get("data-value") for attributes in page.each("td")]
    assert all(str(value) in values for value in summary.values())
    assert [section["id"] for section in page.each("section")][:2] == ["result", "evidence"]
    links = [
        attributes[name]
        for _, attributes in page.found
        for name in ("src", "href")
        if name in attributes
    ]
    assert not [link for link in links if ":" in link and not link.startswith("data:")]


def test_a_sweep_has_tables_of_runs_failures_and_seeds(tmp_path: Path) -> None:
    sweep = read_sweep(made_sweep(tmp_path / "sweep"))
    assert sweep.command == "netinv -m +experiment=made loss.kl.weight=1,10 seed=0,1,2"
    assert sweep.keys == ["loss.kl.weight", "seed"]
    assert sweep.ranked_by == "inversion/accuracy"
    assert [job.name for job in sweep.jobs] == ["3", "2", "1", "0", "5", "4"]
    assert sweep.states == [("done", 4), ("not run", 1), ("failed", 1)]
    assert sweep.failures is not None
    assert [[shown.text for shown in row] for row in sweep.failures.rows] == [
        ["5", "not run", ""],
        ["4", "failed", "out of memory"],
    ]
    assert sweep.spread is not None
    rows = {row[0].text: row for row in sweep.spread.rows}
    assert rows["1"][1].text == "3 of 3"
    assert rows["1"][2].text == f"0.600 ± {statistics.stdev([0.5, 0.6, 0.7]):.3f}"
    assert [shown.text for shown in rows["10"][1:3]] == ["1 of 3", "0.800"]
    assert [run["name"] for run in sweep.comparison["runs"]] == ["3", "2", "1", "0"]
    assert sweep.comparison["metrics"][0] == "inversion/accuracy"


def test_a_job_of_a_sweep_has_its_own_command(tmp_path: Path) -> None:
    made = made_sweep(tmp_path / "sweep")
    single, several = read(made / "1")
    assert single is not None
    assert several is None
    assert single.command == "netinv +experiment=made loss.kl.weight=1 seed=1"


def test_runs_of_a_folder_are_compared_by_their_commands(tmp_path: Path) -> None:
    made_run(tmp_path / "a", 0.7, words=("application.lr=0.2",))
    made_run(tmp_path / "b", 0.9, words=())
    (tmp_path / "latest").symlink_to("a")
    single, several = read(tmp_path)
    assert single is None
    assert several is not None
    assert {job.name: job.values for job in several.jobs} == {
        "b": {"experiment": "made", "application.lr": "0.1"},  # from its config
        "a": {"experiment": "made", "application.lr": "0.2"},
    }
    assert several.keys == ["application.lr"]
    assert several.spread is None


def test_a_run_with_nested_runs_shows_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_run(tmp_path / "whole")
    made_run(tmp_path / "whole" / "one")
    made_run(tmp_path / "whole" / "two", 0.8)
    page = page_of(tmp_path / "whole", capsys)
    assert {"result", "runs", "pictures"} <= {section.get("id") for section in page.each("section")}


def test_a_run_is_running_only_while_its_process_lives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = made_run(tmp_path / "run", state="running")
    with FileLock(made / ".lock"):
        assert read_run(made).outcome.state == "running"
        assert "is still running" in page_of(made, capsys).text
    assert read_run(made).outcome.state == "killed"
    assert f"netinv resume={made}" in page_of(made, capsys).text


def test_a_failed_run_shows_its_error_and_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = made_run(tmp_path / "run", state="failed", error="RuntimeError: loss/kl is nan")
    (made / "run.log").write_text("".join(f"line {number}\n" for number in range(100)))
    (made / "summary.json").unlink()
    page = page_of(made, capsys)
    assert "The run failed: RuntimeError: loss/kl is nan" in page.text
    assert "line 99" in page.text
    assert "line 39" not in page.text
    assert [chart.title for chart in read_charts(Folder(made))] == ["Loss terms", "Accuracy"]


def test_a_report_replaces_the_previous_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = made_run(tmp_path / "run")
    (made / "report.html").write_text("old")
    page_of(made, capsys)
    assert (made / "report.html").read_text().startswith("<!DOCTYPE html>")
    elsewhere = tmp_path / "page.html"
    assert main([str(made), "--output", str(elsewhere)]) == 0
    assert capsys.readouterr().out == f"{elsewhere}\n"
    assert 'data-file="run/figures/grid.png"' in elsewhere.read_text()
    assert not list(tmp_path.rglob("*.partial"))


def test_a_refused_run_has_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "run"
    RunDir(made).record_refusal(DictConfig({"name": "refused"}), "lr=-1: must be above 0")
    assert "lr=-1: must be above 0" in page_of(made, capsys).text
