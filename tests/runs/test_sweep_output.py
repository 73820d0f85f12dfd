"""What a sweep prints: its jobs before it starts, and marked lines of parallel jobs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from netinv_lightning import run as entry
from netinv_lightning.runs.marked_output import marked_output
from netinv_lightning.runs.sweep_table import sweep_rows, write_sweep_table


@pytest.fixture
def command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[object, str, str]]:
    """Return a function that runs a command here: its status, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["netinv", *words])
        with pytest.raises(SystemExit) as stopped:
            entry.main()
        assert list(tmp_path.iterdir()) == []
        return stopped.value.code, *capfd.readouterr()

    return run


def test_dry_run_lists_the_jobs_and_writes_nothing(
    command: Callable[..., tuple[object, str, str]],
) -> None:
    words = ["-m", "--dry-run", "conditioning=label,vector", "seed=0,1", "name=a"]
    status, out, err = command(*words)
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "job 0: conditioning=label seed=0 name=a",
        "job 1: conditioning=label seed=1 name=a",
        "job 2: conditioning=vector seed=0 name=a",
        "job 3: conditioning=vector seed=1 name=a",
    ]


def test_dry_run_names_the_jobs_that_would_be_refused(
    command: Callable[..., tuple[object, str, str]],
) -> None:
    status, out, err = command("-m", "--dry-run", "seed=0,-1")
    assert (status, err) == (2, "error: --dry-run: 1 of 2 jobs would be refused\n")
    assert out.splitlines()[2] == "  would be refused: seed=-1: must be from 0 to 4294967295"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--dry-run", "seed=1"], "error: --dry-run: lists the jobs of a sweep, and needs -m"),
        (["-m", "--dry-run", "seed=0,"], "error: seed=0,: "),
    ],
)
def test_dry_run_is_refused(
    command: Callable[..., tuple[object, str, str]], words: list[str], line: str
) -> None:
    status, out, err = command(*words)
    assert (status, out) == (2, "")
    assert err.startswith(line)


def test_lines_of_a_job_start_with_its_number(capsys: pytest.CaptureFixture[str]) -> None:
    with marked_output("[job 3] "):
        print("a", "b", sep="\n")
        print("half", end="")
        print("c", file=sys.stderr)
        assert not sys.stderr.isatty()
    captured = capsys.readouterr()
    assert captured.out == "[job 3] a\n[job 3] b\n[job 3] half\n"
    assert captured.err == "[job 3] c\n"


def test_table_names_the_metric_of_the_jobs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (0, 1):
        (tmp_path / str(number)).mkdir()
        status = {"state": "done", "best_metric": 0.5, "best_metric_name": "example/score"}
        (tmp_path / str(number) / "status.json").write_text(json.dumps(status))
    jobs = {0: ["seed=0"], 1: ["seed=1"]}
    write_sweep_table(tmp_path, sweep_rows(tmp_path, jobs, {}))
    out = capsys.readouterr().out
    assert "2 of 2 jobs done, highest example/score first" in out
    assert "best_metric" not in out
    assert "best_metric" in (tmp_path / "sweep.csv").read_text().splitlines()[0]
