"""Charts, tables, numbers and pictures of a page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from netinv_lightning.html_report import pictures
from netinv_lightning.html_report.command import main
from netinv_lightning.html_report.csv_tables import cell, page_table, read_tables
from netinv_lightning.html_report.curves import Chart, read_charts, thinned
from netinv_lightning.html_report.files import Folder
from netinv_lightning.html_report.metric_tables import described, headlines, remaining_metrics
from netinv_lightning.html_report.run_facts import command_of, duration
from netinv_lightning.html_report.run_figures import MOST_FRAMES, read_frames
from netinv_lightning.runs.tables import Table
from tests.html_report.made_runs import HOSTILE, Elements, draw, files_of, made_run, page_of


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
    assert len(page.each("script")) == 2  # data and the page's own script


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
    (tmp_path / "words.csv").write_text("number,value\na,1\n")
    (tmp_path / "words.md").write_text("# Study\n\n- first\n- second\n")
    narrow, abridged, words = read_tables(Folder(tmp_path))
    assert (narrow.title, narrow.notes) == ("AUROC", ["higher is better"])
    assert [[(shown.text, shown.full) for shown in row] for row in narrow.rows] == [
        [("msp", "msp"), ("0.988", "0.98765"), ("4e-05", "4e-05")],
        [("knn", "knn"), ("", ""), ("1234", "1234.5")],
    ]
    assert (abridged.columns, abridged.rows[0][0].text) == (["a|b", "c"], "1 ± 2")
    assert abridged.notes == ["all columns are in wide.csv"]
    assert (words.columns, words.notes) == ([], ["first", "second"])


def test_each_metric_is_shown_once_with_its_meaning(tmp_path: Path) -> None:
    metrics = {"inversion/accuracy": 0.9, "cost/seconds": 5.0, "transfer/accuracy": 0.5}
    measured = page_table(
        Table("Measured", ["metric", "inverted"], [["inversion/accuracy", 0.9], ["unknown", 1.0]])
    )
    table = described(measured)
    assert table.columns == ["metric", "inverted", "better", "definition"]
    assert [shown.text for shown in table.rows[0]][:3] == ["inversion/accuracy", "0.900", "higher"]
    assert table.rows[0][3].text.startswith("Share of new images")
    assert [shown.text for shown in table.rows[1]] == ["unknown", "1.000", "", ""]
    rest = remaining_metrics(metrics, [table])
    assert [row[0].text for group in rest for row in group.rows] == [
        "cost/seconds",
        "transfer/accuracy",
    ]
    assert [(of.name, of.better) for of in headlines(metrics)] == [
        ("inversion/accuracy", "higher"),
        ("transfer/accuracy", "higher"),
    ]


def test_the_size_of_a_page_is_limited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Noise in colour is the worst case of all pictures."""
    made = made_run(tmp_path / "run")
    for number in range(2):
        draw(made / "figures" / f"other{number}.png", 480)
        draw(made / "figures" / f"grid_step{number:06d}.png", 250)
    page_of(made, capsys)
    assert (made / "report.html").stat().st_size <= 1.5e6


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
    file = draw(tmp_path / "figures" / "grid.png", 1610)
    folder = Folder(tmp_path)
    full = pictures.read_picture(folder, file, "a grid", pictures.FULL, 10**7)
    assert (full.width, full.height) == (1600, 1600)
    small = pictures.read_picture(
        folder, file, "a grid", pictures.THUMBNAIL, pictures.THUMBNAIL_BYTES
    )
    assert len(small.uri) * 3 / 4 <= pictures.THUMBNAIL_BYTES + 30
    assert small.width >= 140  # noise compresses worst
    plain = pictures.read_picture(
        folder, draw(tmp_path / "figures" / "small.png", 64), "small", pictures.FULL, 10**6
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
