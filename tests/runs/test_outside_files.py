"""Files from another person do no harm to whoever reads a run directory or resumes its run.

Tested are links, FIFOs, huge files and terminal escapes.
"""

from __future__ import annotations

import json
import logging
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from PIL import Image

import netinv_lightning
from netinv_lightning.classifiers.checkpoints import read_card
from netinv_lightning.errors import InputError, one_line, printable
from netinv_lightning.html_report.command import main as report
from netinv_lightning.html_report.curves import MOST_POINTS, read_charts
from netinv_lightning.html_report.files import Folder
from netinv_lightning.runs.directory_lock import is_held
from netinv_lightning.runs.file_writing import check_writable_content, write_atomically
from netinv_lightning.runs.outside_files import (
    MAX_BYTES,
    read_end,
    read_json,
    read_lines,
    read_text,
)
from netinv_lightning.runs.resume import read_config
from netinv_lightning.runs.run_directory import RunDir, read_status
from netinv_lightning.runs.sweep_directory import read_manifest
from netinv_lightning.tracking.loggers import MetricsCsv

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil\r"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.txt"
    path.write_text('{"state": "secret"}')
    return path


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "runs" / "theirs" / "1"
    (directory / "figures").mkdir(parents=True)
    (directory / "config.yaml").write_text(
        "name: theirs\napplication: {name: invert}\ndata: {name: mnist}\n"
    )
    (directory / "status.json").write_text('{"state": "failed"}')
    return directory


READERS: dict[str, Callable[[Path], Any]] = {
    "read_text": lambda path: read_text(path, path.parent),
    "read_json": lambda path: read_json(path, path.parent),
    "read_lines": lambda path: list(read_lines(path, path.parent)),
    "read_end": lambda path: read_end(path, 10, path.parent),
}


@pytest.mark.parametrize("reader", READERS)
def test_links_out_of_it_fifos_and_folders_are_not_read(
    reader: str, run_dir: Path, secret: Path
) -> None:
    read = READERS[reader]
    (run_dir / "link").symlink_to(secret)
    (run_dir / "up").symlink_to("../../../secret.txt")
    os.mkfifo(run_dir / "fifo")
    for name, message in {
        "link": "outside",
        "up": "outside",
        "fifo": "not a regular file",
        "figures": "not a regular file",
    }.items():
        with pytest.raises(InputError, match=message):
            read(run_dir / name)
    (run_dir / "inside").symlink_to("status.json")
    assert "failed" in str(read(run_dir / "inside")) or reader == "read_end"
    (run_dir / "circle").symlink_to("circle")
    with pytest.raises(OSError, match="circle"):
        read(run_dir / "circle")


def test_the_size_of_a_file_is_bounded(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # a sparse file
    with pytest.raises(InputError, match=r"huge: has more than 16,777,216 bytes"):
        read_text(tmp_path / "huge")
    with pytest.raises(InputError, match=r"huge: has a line of more than 1,048,576 characters"):
        list(read_lines(tmp_path / "huge"))
    assert read_end(tmp_path / "huge", 5) == ("\0" * 5, MAX_BYTES - 4)
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"deep\.json: is nested too deeply"):
        read_json(tmp_path / "deep.json")
    (tmp_path / "deep.safetensors").touch()
    with pytest.raises(InputError, match=r"its card deep\.json is damaged"):
        read_card(tmp_path / "deep.safetensors")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="bytes: is not text"):
        read_text(tmp_path / "bytes")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [1]\nb: [*a, *a]\n", r"config\.yaml: has an alias \(\*a\)"),
        ("a: " + "[" * 60 + "]" * 60, r"config\.yaml: is nested more than 50 levels deep"),
        (
            "a: " + "[" * 100_000,
            r"config\.yaml: is .*(nested more than 50 levels|maximum nesting depth)",
        ),
        ("a: " + "x" * 300_000, r"config\.yaml: has more than 262,144 bytes"),
        ("a: !!python/object/apply:os.system [x]\n", r"config\.yaml: is not a run's config"),
        ("[1, 2]", r"config\.yaml: is not a run's config"),
    ],
)
def test_a_config_that_expands_is_refused(text: str, message: str, run_dir: Path) -> None:
    (run_dir / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        read_config(run_dir)
    folder = Folder(run_dir)
    assert folder.yaml("config.yaml") == {}
    assert len(folder.problems) == 1


def test_readers_do_not_wait_for_a_fifo(run_dir: Path) -> None:
    for name in (
        "status.json",
        "summary.json",
        "environment.json",
        "verdict.json",
        "metrics.csv",
        "run.log",
        "table.csv",
        "notes.md",
        ".lock",
    ):
        (run_dir / name).unlink(missing_ok=True)
        os.mkfifo(run_dir / name)
    os.mkfifo(run_dir / "figures" / "grid.png")
    assert report([str(run_dir)]) == 0
    assert (read_status(run_dir), RunDir(run_dir).state, is_held(run_dir)) == ({}, None, False)
    (run_dir / "config.yaml").unlink()
    os.mkfifo(run_dir / "config.yaml")
    os.mkfifo(run_dir / "sweep.json")
    for refused in (read_config, netinv_lightning.load_run, read_manifest):
        with pytest.raises(InputError, match="not a regular file"):
            refused(run_dir)


def test_a_report_shows_no_file_from_outside(
    run_dir: Path, secret: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (50, 50)).save(secret.with_name("private.png"))
    (run_dir / "figures" / "grid.png").symlink_to(secret.with_name("private.png"))
    for name in ("status.json", "run.log", "notes.md", "notes.txt", "table.csv", "metrics.csv"):
        (run_dir / name).unlink(missing_ok=True)
        (run_dir / name).symlink_to(secret)
    assert report([str(run_dir)]) == 0
    page = (run_dir / "report.html").read_text()
    assert "secret&#34;" not in page
    assert "data:image/webp" not in page
    warnings = capsys.readouterr().err
    for name in (
        "figures/grid.png",
        "status.json",
        "run.log",
        "notes.md",
        "table.csv",
        "metrics.csv",
    ):
        assert f"{run_dir / name}: " in warnings


def test_the_report_of_a_sweep_shows_no_run_from_outside(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = tmp_path / "sweep"
    (sweep / "1").mkdir(parents=True)
    (sweep / "0").symlink_to(run_dir)
    (sweep / "sweep.json").write_text(
        json.dumps({"command": ["-m"], "overrides": [], "jobs": {"0": ["seed=0"], "1": ["seed=1"]}})
    )
    assert report([str(sweep)]) == 0
    assert (
        f"{sweep}/0: is left out (is a link to {run_dir}, outside {sweep}"
        in capsys.readouterr().err
    )
    with pytest.raises(InputError, match=r"0: is a link to .*, outside"):
        check_writable_content(sweep, deep=False)


def test_nothing_is_written_through_a_link(run_dir: Path, secret: Path) -> None:
    before = secret.read_text()
    (run_dir / "report.html.partial").symlink_to(secret)
    (run_dir / "report.html").symlink_to(secret)
    assert report([str(run_dir)]) == 0
    (run_dir / "status.json.partial").symlink_to(secret)
    write_atomically(run_dir / "status.json", "new")
    assert secret.read_text() == before
    assert not (run_dir / "report.html").is_symlink()


@pytest.mark.parametrize(
    "name", ["run.log", "figures/grid.pdf.partial", "checkpoints", "config.yaml.partial", ".lock"]
)
def test_a_run_with_links_out_of_it_is_not_resumed(name: str, run_dir: Path, secret: Path) -> None:
    before = secret.read_text()
    (run_dir / name).symlink_to(secret if name != "checkpoints" else secret.parent)
    with pytest.raises(InputError, match=rf"{name}: is a link to .*, outside"):
        RunDir(run_dir, resuming=True).check_usable()
    assert is_held(run_dir) is False
    assert secret.read_text() == before


def test_a_resumed_run_does_not_change_files_that_it_is_linked_to(
    run_dir: Path, tmp_path: Path
) -> None:
    names = ("run.log", "metrics.csv", "figures/grid.png", "checkpoints/last.ckpt.partial")
    (run_dir / "checkpoints").mkdir()
    (tmp_path / "backup").mkdir()
    backups = {name: tmp_path / "backup" / name.replace("/", "_") for name in names}
    for name, backup in backups.items():
        backup.write_text("step,loss/total\n1,2\n")
        os.link(backup, run_dir / name)
    with RunDir(run_dir, resuming=True).open(OmegaConf.create({"trainer": {}})):
        logging.getLogger().error("a line")
        MetricsCsv(run_dir / "metrics.csv").log_metrics({"loss/total": 3.0}, 2)
        (run_dir / "figures" / "grid.png").write_text("new")
    assert {backup.read_text() for backup in backups.values()} == {"step,loss/total\n1,2\n"}
    assert (run_dir / "metrics.csv").read_text() == "step,loss/total\n1,2\n2,3.0\n"
    assert "a line" in (run_dir / "run.log").read_text()
    assert (run_dir / "run.log").stat().st_nlink == 1


def test_a_run_with_a_fifo_is_not_resumed(run_dir: Path) -> None:
    (run_dir / "wandb" / "run").mkdir(parents=True)
    (run_dir / "wandb" / "run" / "debug.log").symlink_to("/tmp/of_wandb.log")  # as W&B does
    check_writable_content(run_dir)
    os.mkfifo(run_dir / "run.log")
    with pytest.raises(InputError, match=r"run\.log: is not a regular file; remove it"):
        RunDir(run_dir, resuming=True).check_usable()


def test_only_the_wandb_folder_of_the_run_may_link_outside(run_dir: Path) -> None:
    (run_dir / "samples" / "wandb").mkdir(parents=True)
    (run_dir / "samples" / "wandb" / "images").symlink_to("/tmp")
    with pytest.raises(InputError):
        check_writable_content(run_dir)


def test_curves_of_many_rows_need_little_memory(run_dir: Path) -> None:
    rows = 150_000
    with (run_dir / "metrics.csv").open("w") as file:
        file.write("step,loss/total\n")
        file.writelines(f"{step},{9 if step == 77_777 else step % 7}\n" for step in range(rows))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    [chart] = read_charts(Folder(run_dir))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # KB
    [curve] = chart.curves
    assert len(curve.steps) <= MOST_POINTS
    assert (curve.steps[0], curve.steps[-1]) == (0, rows - 1)
    assert curve.values[curve.steps.index(77_777)] == 9
    assert curve.steps == sorted(curve.steps)


def test_messages_do_not_control_the_terminal(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    escaped = r"\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil"
    assert one_line(ESCAPES) == escaped
    assert str(InputError(ESCAPES)) == escaped + r"\r"
    text = "naïve 漢字 π, \U0001f600\n\tnext"
    assert printable(text) == text
    assert printable("\udcff") == r"\udcff"
    (run_dir / f"{ESCAPES}.csv").write_text("")
    (run_dir / "verdict.json").write_text(
        json.dumps({"verdict": ESCAPES, "line": 1, "evidence": [{"question": 1}]})
    )
    (run_dir / "table.csv").write_text(f'a,b\n"{ESCAPES}')
    assert report([str(run_dir)]) == 0
    err = capsys.readouterr().err
    assert "is damaged" in err
    assert printable(err) == err
