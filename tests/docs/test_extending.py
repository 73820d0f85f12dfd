"""The recipes of docs/extending.md, applied to a copy of the repository as printed, and run."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from safetensors.torch import load_file

from experiments.forked import fork_server
from tests.docs.printed_code import PAGE, ROOT, apply, blocks, commands

OUTSIDE = "my_terms.py"
"""The only file of the page that is not part of the repository."""
SHORT = ["generator=tiny", *PAGE.partition("`generator=tiny ")[2].partition("`")[0].split()]
"""The overrides that the page recommends, for methods with a generator."""


def run_all(root: str, folder: str, jobs: list[list[str]]) -> None:
    """Run commands one after the other with the package in `root`; write their exit statuses."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "netinv_lightning"]:
        del sys.modules[name]  # the server has imported the package from the repository
    sys.path.insert(0, root)
    os.chdir(folder)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), descriptor)
    from netinv_lightning.run import CONF, main

    assert Path(root) in CONF.parents
    statuses = []
    for words in jobs:
        sys.argv = ["netinv", *words]
        try:
            main()
        except SystemExit as stop:
            statuses.append(stop.code)
        Path("statuses.json").write_text(json.dumps(statuses))
    sys.stdout.flush()
    os._exit(0)


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the repository to which every block of the page has been applied."""
    root = tmp_path_factory.mktemp("extending") / "repository"
    package = root / "netinv_lightning"
    weights = Path("classifiers", "zoo_weights")
    shutil.copytree(ROOT / "netinv_lightning", package, ignore=shutil.ignore_patterns(weights.name))
    (package / weights).symlink_to(ROOT / "netinv_lightning" / weights)
    for name in ("conf", "docs", "tests"):
        shutil.copytree(ROOT / name, root / name)
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, root / name)
    for block in blocks():
        apply(block, root)
    return root


NO_DATA = ["application.verifiers=[]", "data.root=nowhere"]
JOBS = {
    "terms": [
        *commands("A loss term")[0],
        *commands("A loss term")[1][1:],
        *commands("A matrix encoder")[0][1:],
        *SHORT,
        *NO_DATA,
    ],
    "metric": [
        *commands("A metric")[0],
        *SHORT,
        *NO_DATA,
        "measure.controls=[noise]",
        "measure.samples=64",
    ],
    "method": [
        *commands("A method")[0],
        *commands("An analysis of features")[0][1:],
        *SHORT[2:],
        *NO_DATA,
        *("method.steps=5", "method.lr=1", "interpret.samples=100"),
    ],
    "application": [*commands("An application")[0], "application.samples=16"],
    "data set": commands("A data set")[0],
    "detectors": [
        *(word for word in commands("A detector")[0] if "mnist" not in word),
        *("data=digits8", "classifier=checkpoint"),
        "classifier.path=runs/latest/classifier.safetensors",
        *("application.samples=100", "application.outliers=[uniform_noise]"),
        "application.strengths=[]",
    ],
}
"""Commands of the page with few steps; some of them run several new parts.

The detectors are those of the classifier of the run before, whose data are read faster.
"""


@pytest.fixture(scope="module")
def runs(extended: Path) -> dict[str, Path]:
    """Run the commands of the page in one process and return the directory of each run."""
    folder = extended.parent / "folder of the user"
    folder.mkdir()
    shutil.move(extended / OUTSIDE, folder / OUTSIDE)
    process = fork_server().Process(
        target=run_all, args=(str(extended), str(folder), list(JOBS.values()))
    )
    process.start()
    process.join()
    output = (folder / "stderr").read_text()
    assert json.loads((folder / "statuses.json").read_text()) == [0] * len(JOBS), output
    directories = [
        Path(line)
        for line in (folder / "stdout").read_text().splitlines()
        if line.startswith(f"{folder}/runs/")
    ]
    return dict(zip(JOBS, directories, strict=True))


def summary(run: Path) -> dict[str, float]:
    content: dict[str, float] = json.loads((run / "summary.json").read_text())
    return content


def column(run: Path, name: str) -> list[float]:
    """Return the values of a column of metrics.csv."""
    with (run / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def rows() -> Iterator[tuple[str, set[str]]]:
    """Yield each row of the table of the page: the anchor of its section, and its files."""
    for line in re.findall(r"^\| \[.*$", PAGE, re.MULTILINE):
        title, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        anchor = re.search(r"#([\w-]+)\)", title)
        assert anchor
        elsewhere = ("conf/", "docs/", "tests/", "README.md")
        yield (
            anchor.group(1),
            {
                path if path.startswith(elsewhere) else f"netinv_lightning/{path}"
                for path in re.findall(r"`([^`]+)`", " ".join(cells))
            },
        )


def covers(pattern: str, path: str) -> bool:
    return bool(re.fullmatch(re.escape(pattern).replace("<name>", r"\w+"), path))


@pytest.mark.parametrize(("anchor", "named"), rows(), ids=lambda value: str(value)[:20])
def test_the_table_names_the_files_that_a_recipe_touches(anchor: str, named: set[str]) -> None:
    touched = {
        block.path
        for block in blocks()
        if block.section.lower().replace(" ", "-") == anchor and block.path != OUTSIDE
    }
    assert [path for path in touched if not any(covers(name, path) for name in named)] == []
    assert [name for name in named if not any(covers(name, path) for path in touched)] == []


@pytest.mark.skipif(find_spec("ruff") is None, reason="ruff is not installed")
def test_the_code_of_the_page_passes_the_linter(extended: Path) -> None:
    changed = sorted({str(extended / block.path) for block in blocks()} - {str(extended / OUTSIDE)})
    python = [path for path in changed if path.endswith(".py")]  # both commands change files
    for words in (["check", "--fix", "--quiet"], ["format", "--quiet"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *words, "--no-cache", *python],
            cwd=extended, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def test_new_loss_terms_are_in_the_metrics_of_their_run(runs: dict[str, Path]) -> None:
    brightness, dark = (column(runs["terms"], f"loss/{name}") for name in ("brightness", "dark"))
    assert brightness
    assert [1 - value for value in dark] == pytest.approx(brightness, abs=1e-6)
    assert "matrix: soft_diagonal" in (runs["terms"] / "config.yaml").read_text()


def test_a_new_metric_is_in_the_summary_and_the_table(runs: dict[str, Path]) -> None:
    contrast = summary(runs["metric"])["fidelity/contrast"]
    assert 0 < contrast < 0.5
    with (runs["metric"] / "measurement.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row["metric"] == "fidelity/contrast")
    assert float(row["inverted"]) == contrast
    assert float(row["noise"]) > 0.2  # uniform noise has 1 / sqrt(12)


def test_a_new_method_and_analysis_give_images_and_numbers(runs: dict[str, Path]) -> None:
    values = summary(runs["method"])
    assert 0 <= values["inversion/accuracy"] <= 1
    assert values["interpretation/norm/inverted"] > 0
    images = load_file(runs["method"] / "samples" / "inverted.safetensors")["images"]
    assert images.shape == (64, 1, 28, 28)
    assert json.loads((runs["method"] / "status.json").read_text())["state"] == "done"


def test_a_new_application_reports_on_a_finished_run(runs: dict[str, Path]) -> None:
    mean = summary(runs["application"])["confidence/mean"]
    assert 0.1 <= mean <= 1
    with (runs["application"] / "confidence.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (int(row["images"]), float(row["mean"])) == (16, mean)


def test_new_detectors_are_compared_in_the_table(runs: dict[str, Path]) -> None:
    with (runs["detectors"] / "detection.csv").open() as file:
        aurocs = {row["detector"]: float(row["AUROC"]) for row in csv.DictReader(file)}
    assert aurocs.keys() == {"margin", "feature_norm"}
    for name, auroc in aurocs.items():
        assert 0 <= auroc <= 1
        assert summary(runs["detectors"])[f"ood/{name}/uniform_noise/auroc"] == auroc


def test_a_classifier_is_trained_on_a_new_data_set(runs: dict[str, Path]) -> None:
    assert "name: digits8" in (runs["data set"] / "config.yaml").read_text()
    assert 0 <= summary(runs["data set"])["classifier/test_accuracy"] <= 1
