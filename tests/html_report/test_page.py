"""`netinv report`: contents of the page for runs in every state, and invalid input."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from filelock import FileLock
from omegaconf import DictConfig
from PIL import Image

from netinv_lightning.html_report import pictures
from netinv_lightning.html_report.command import main, read
from netinv_lightning.html_report.csv_tables import cell, read_tables
from netinv_lightning.html_report.curves import Chart, read_charts, thinned
from netinv_lightning.html_report.files import Folder
from netinv_lightning.html_report.run_contents import read_run
from netinv_lightning.html_report.run_facts import command_of, duration
from netinv_lightning.html_report.run_figures import MOST_FRAMES, read_frames
from netinv_lightning.html_report.sweep_contents import read_sweep
from netinv_lightning.run import run
from netinv_lightning.runs.run_directory import RunDir

HOSTILE = "<img src=x onerror=alert(1)>"
VERDICT = {
    "verdict": "adversarial noise",
    "line": "verdict: adversarial noise: other networks disagree (inversion/accuracy 0.900)",
    "evidence": [
        {
            "question": "agree?",
            "metric": "inversion/accuracy",
            "value": 0.9,
            "threshold": 0.55,
            "passed": True,
            "margin": 0.35,
        },
        {
            "question": "others?",
            "metric": "transfer/accuracy",
            "value": 0.2,
            "threshold": 0.5,
            "passed": False,
            "margin": -0.3,
        },
    ],
    "not_tested": [],
    "diagnosis": [
        {
            "failure": "noise",
            "meaning": "not recognised",
            "metric": "transfer/accuracy",
            "value": 0.2,
            "threshold": 0.5,
            "settings": ["loss=natural"],
        },
    ],
}


def made_run(
    path: Path,
    accuracy: float = 0.9,
    state: str = "done",
    words: tuple[str, ...] = ("seed=0",),
    **status: Any,
) -> Path:
    """Write a run directory like that of `application=invert`, with a grid of noise."""
    (path / "figures").mkdir(parents=True)
    config = {
        "name": "made",
        "seed": 0,
        "application": {"name": "invert", "lr": 0.1},
        "data": {"name": "mnist"},
    }
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    (path / "environment.json").write_text(
        json.dumps({"command": ["netinv", "+experiment=made", *words], "git_sha": "abc"})
    )
    (path / "status.json").write_text(
        json.dumps(
            {"state": state, "best_metric": accuracy, "seconds": 61.0, "error": None, **status}
        )
    )
    summary = {
        "inversion/accuracy": accuracy,
        "transfer/accuracy": 1 - accuracy,
        "cost/seconds": 50.0,
        f"ood/{'long_' * 7}/auroc": 0.5,
    }
    (path / "summary.json").write_text(json.dumps(summary))
    (path / "verdict.json").write_text(json.dumps(VERDICT))
    steps = [f"{step},{1 / (step + 1)},{step / 40}," for step in range(40)]
    (path / "metrics.csv").write_text(
        "\n".join(["step,loss/kl,inversion/accuracy_train,cost/seconds", *steps, "40,,,50.0"])
        + "\n"
    )
    (path / "run.log").write_text("it began\n")
    draw(path / "figures" / "grid.png")
    return path


def draw(path: Path, side: int = 300) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def made_sweep(path: Path) -> Path:
    """Write a sweep of two settings and three seeds: one job failed, one did not start."""
    jobs = {
        str(3 * s + seed): ["+experiment=made", f"loss.kl.weight={w}", f"seed={seed}"]
        for s, w in enumerate((1, 10))
        for seed in (0, 1, 2)
    }
    for number, overrides in jobs.items():
        if number == "5":
            continue
        failed = number == "4"
        made_run(
            path / number,
            0.5 + int(number) / 10,
            "failed" if failed else "done",
            tuple(overrides),
            error="out of memory" if failed else None,
        )
    command = [
        "-m",
        "+experiment=made",
        "loss.kl.weight=1,10",
        "seed=0,1,2",
        f"hydra.sweep.dir={path}",
    ]
    (path / "sweep.json").write_text(
        json.dumps({"command": command, "cwd": "/", "overrides": command[1:4], "jobs": jobs})
    )
    return path


def files_of(path: Path) -> dict[str, str]:
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in path.rglob("*")
        if file.is_file()
    }


class Elements(HTMLParser):
    """HTML parser that collects the elements of a page, their attributes and the visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self._hidden = False
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden = tag in ("script", "style")
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)

    def each(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.found if name == tag]


def page_of(directory: Path, capsys: pytest.CaptureFixture[str]) -> Elements:
    assert main([str(directory)]) == 0
    path = Path(capsys.readouterr().out.splitlines()[-1])
    return Elements(path.read_text())


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
    assert [section["id"] for section in page.each("section")][:2] == ["verdict", "run"]
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
    assert {"verdict", "runs", "pictures"} <= {
        section.get("id") for section in page.each("section")
    }


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


def test_damaged_files_are_listed_and_the_rest_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = made_run(tmp_path / "run")
    (made / "summary.json").write_text('{"inversion/accuracy": 0.9')
    (made / "verdict.json").write_text('["no", "object"]')
    with (made / "metrics.csv").open("a") as file:
        file.write("41,0.5,abc,\n42,0.")
    (made / "figures" / "confusion.png").write_bytes(
        (made / "figures" / "grid.png").read_bytes()[:500]
    )
    (made / "measurement.csv").write_text("metric,inverted\na,1\nb\n")
    (made / "rules.txt").write_bytes(b"\xff\xfe\xfa")
    assert main([str(made)]) == 0
    captured = capsys.readouterr()
    warned = captured.err.splitlines()
    damaged = [
        "summary.json",
        "verdict.json",
        "metrics.csv",
        "figures/confusion.png",
        "measurement.csv",
        "rules.txt",
    ]
    assert len(warned) == len(damaged)
    assert all(line.startswith("warning: ") for line in warned)
    assert all(any(f"{made / name}: " in line for line in warned) for name in damaged)
    page = Elements((made / "report.html").read_text())
    assert all(str(made / name) in page.text for name in damaged)
    assert "2 rows are left out" in page.text
    assert "confusion.png is damaged" in page.text
    assert sum(image.get("src", "").startswith("data:image") for image in page.each("img")) == 1
    assert len(read_charts(Folder(made))[0].curves[0].steps) == 40


def test_markup_in_names_is_shown_as_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = made_run(tmp_path / "run", state="failed", error=HOSTILE, words=(f"name={HOSTILE}",))
    draw(made / "figures" / f"{HOSTILE}.png")
    (made / "metrics.csv").write_text("step,loss/</script><script>alert(1)</script>\n0,1\n1,2\n")
    page = page_of(made, capsys)
    assert page.text.count(HOSTILE) >= 3
    assert not [image for image in page.each("img") if "onerror" in image]
    assert len(page.each("script")) == 3  # data, plotly and the page's own script


BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "no directory": (("nonesuch",), "nonesuch: is not a directory"),
    "a file": (("file",), "file: is not a directory"),
    "no run": (("empty",), "contains no run"),
    "folders of runs": ((".",), "for example"),
    "a damaged sweep": (("damaged",), "is damaged"),
    "nothing": ((), "directory"),
    "no folder": (("runs/a", "--output", "gone/page.html"), "its folder does not exist"),
    "a folder": (("runs/a", "--output", "empty"), "is a directory"),
    "not writable": (("runs/a", "--output", "/proc/page.html"), "cannot be written"),
}


@pytest.mark.parametrize("case", BAD)
def test_invalid_input_gives_one_line_and_writes_nothing(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made_run(tmp_path / "runs" / "a")
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "sweep.json").write_text('{"command": 1, "overrides": [], "jobs": 3}')
    before = files_of(tmp_path)
    arguments, message = BAD[case]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert files_of(tmp_path) == before


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


def test_thinning_keeps_spikes_and_ends() -> None:
    steps = list(range(20_000))
    values = [0.0] * 20_000
    values[7_777], values[12_345] = 5.0, -5.0
    chosen, thin = thinned(steps, values, 100)
    assert len(chosen) == len(thin) <= 100
    assert (chosen[0], chosen[-1]) == (0, 19_999)
    assert dict(zip(chosen, thin, strict=True)) | {7_777: 5.0, 12_345: -5.0} == dict(
        zip(chosen, thin, strict=True)
    )
    assert chosen == sorted(chosen)
    assert thinned([1, 2], [3, 4], 100) == ([1, 2], [3, 4])


def test_charts_group_related_curves(tmp_path: Path) -> None:
    header = (
        "step,loss/kl,loss/total,inversion/accuracy,"
        "garbage/noise/images,garbage/inverted/images,cost/seconds"
    )
    (tmp_path / "metrics.csv").write_text(
        f"{header}\n0,1,nan,0.1,10,20,\n5,2,3,0.2,11,21,\n,9,9,,,,\n9,,4,,,,7\n"
    )
    folder = Folder(tmp_path)
    assert {
        chart.title: [(c.label, c.steps, c.values) for c in chart.curves]
        for chart in read_charts(folder)
    } == {
        "Loss terms": [("kl", [0, 5], [1, 2]), ("total", [5, 9], [3, 4])],
        "Accuracy": [("inversion/accuracy", [0, 5], [0.1, 0.2])],
        "Training with a garbage class: images": [
            ("noise", [0, 5], [10, 11]),
            ("inverted", [0, 5], [20, 21]),
        ],
    }
    assert folder.problems == []
    (tmp_path / "metrics.csv").write_text("what,is\nthis,?\n")
    assert read_charts(folder) == list[Chart]()
    assert "no column step" in folder.problems[0]


def test_tables_have_the_title_and_notes_of_their_markdown(tmp_path: Path) -> None:
    (tmp_path / "detection.csv").write_text("detector,AUROC,p\nmsp,0.98765,0.00004\nknn,,1234.5\n")
    (tmp_path / "detection.md").write_text(
        "# AUROC\n\n| detector | AUROC | p |\n| --- | --- | --- |\n| msp | 1 | 0 |\n\n"
        "- higher is better\n"
    )
    wide = ",".join(f"c{number}" for number in range(30))
    (tmp_path / "wide.csv").write_text(f"{wide}\n{wide}\n")
    (tmp_path / "wide.md").write_text("# Abridged\n\n| a\\|b | c |\n| --- | --- |\n| 1 ± 2 | x |\n")
    narrow, abridged, full = read_tables(Folder(tmp_path))
    assert (narrow.title, narrow.notes) == ("AUROC", ["higher is better"])
    assert [[(shown.text, shown.full) for shown in row] for row in narrow.rows] == [
        [("msp", "msp"), ("0.988", "0.98765"), ("4e-05", "4e-05")],
        [("knn", "knn"), ("", ""), ("1234", "1234.5")],
    ]
    assert (abridged.columns, abridged.rows[0][0].text, abridged.folded) == (
        ["a|b", "c"],
        "1 ± 2",
        False,
    )
    assert (len(full.columns), full.folded) == (30, True)


def test_numbers_are_rounded() -> None:
    values = (0.98765, 12.34, 1234.5, 0.0, 0.0004, float("nan"), None, True, [1, 2])
    assert [cell(value).text for value in values] == [
        "0.988",
        "12.3",
        "1234",
        "0.000",
        "0.0004",
        "nan",
        "",
        "True",
        "[1, 2]",
    ]
    assert [duration(seconds) for seconds in (5.25, 61, 3725)] == [
        "5.2 s",
        "1 min 1 s",
        "1 h 2 min",
    ]


def test_the_command_can_be_pasted_into_a_shell() -> None:
    words = ["/x/netinv_lightning/run.py", "+experiment=a", "'b'=[1, 2]", "hydra.run.dir=/old"]
    assert command_of({"command": words}) == ("""netinv +experiment=a ''"'"'b'"'"'=[1, 2]'""", "")
    assert command_of({"command": ["netinv", "resume=/run"]}) == (
        "netinv resume=/run",
        "command that continued this run",
    )
    assert command_of({"command": ["/usr/bin/ipykernel_launcher.py", "-f"]}) == ("", "")
    assert command_of({}) == ("", "")


def test_pictures_respect_the_size_limits(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    file = draw(tmp_path / "figures" / "grid.png", 1700)
    folder = Folder(tmp_path)
    full = pictures.read_picture(folder, file, "a grid", pictures.FULL)
    assert (full.width, full.height) == (1600, 1600)
    small = pictures.read_picture(
        folder, file, "a grid", pictures.THUMBNAIL, pictures.THUMBNAIL_BYTES
    )
    assert len(small.uri) * 3 / 4 <= pictures.THUMBNAIL_BYTES + 30
    assert small.width >= 140  # noise compresses worst
    plain = pictures.read_picture(
        folder, draw(tmp_path / "figures" / "small.png", 64), "small", pictures.FULL
    )
    decoded = Image.open(io.BytesIO(base64.b64decode(plain.uri.partition(",")[2])))
    original = Image.open(tmp_path / "figures" / "small.png")
    assert np.array_equal(np.asarray(decoded.convert("RGB")), np.asarray(original))
    (tmp_path / "figures" / "small.png").unlink()
    for step in range(1, 61):
        draw(tmp_path / "figures" / f"grid_step{step:06d}.png", 8)
    frames, left_out = read_frames(folder)
    assert (len(frames), left_out, frames[0][0], frames[-1][0]) == (
        MOST_FRAMES,
        60 - MOST_FRAMES,
        1,
        60,
    )


def test_a_refused_run_has_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "run"
    RunDir(made).record_refusal(DictConfig({"name": "refused"}), "lr=-1: must be above 0")
    assert "lr=-1: must be above 0" in page_of(made, capsys).text
