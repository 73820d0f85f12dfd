"""The scripts of experiments import as a package, print help and make their pages' tables."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from experiments.jobs import read_rows
from experiments.page import pick, shown, with_tables

FOLDER = Path(__file__).parents[2] / "experiments"
SCRIPTS = [path for path in sorted(FOLDER.rglob("*/*.py")) if "def main(" in path.read_text()]
WITH_TABLES = [path for path in SCRIPTS if "def tables(" in path.read_text()]
PAGE = (
    "# Title\n\n<!-- table: first -->\nold\n<!-- end -->\n\n"
    "text\n\n<!-- table: second -->\n<!-- end -->\n"
)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(FOLDER.parent).with_suffix("").parts)


@pytest.mark.parametrize("path", SCRIPTS, ids=module_name)
def test_help_shows_what_the_script_does(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = importlib.import_module(module_name(path))
    monkeypatch.setattr("sys.argv", [path.name, "--help"])
    with pytest.raises(SystemExit) as stop:
        script.main()
    assert stop.value.code == 0
    first_line = script.__doc__.partition("\n")[0]
    assert "".join(first_line.split()) in "".join(
        capsys.readouterr().out.split()
    )  # argparse wraps lines


def test_no_script_edits_the_module_search_path() -> None:
    assert [path.name for path in FOLDER.rglob("*.py") if "sys.path" in path.read_text()] == []


@pytest.mark.parametrize("path", WITH_TABLES, ids=module_name)
def test_the_tables_of_a_page_match_its_results(path: Path) -> None:
    page = (path.parent / "README.md").read_text()
    tables = importlib.import_module(module_name(path)).tables(
        read_rows(path.parent / "results.csv")
    )
    assert with_tables(page, tables) == page, f"run python -m {module_name(path)} --tables"


def test_eight_experiments_make_their_tables() -> None:
    assert len(WITH_TABLES) >= 8


def test_tables_replace_the_text_between_their_markers() -> None:
    expected = (
        "# Title\n\n<!-- table: first -->\n| 1 |\n<!-- end -->\n\n"
        "text\n\n<!-- table: second -->\n| 2 |\n<!-- end -->\n"
    )
    assert with_tables(PAGE, {"second": "| 2 |\n", "first": "| 1 |\n"}) == expected


@pytest.mark.parametrize("names", [["first"], ["first", "second", "third"]])
def test_every_table_has_a_marker_and_every_marker_a_table(names: list[str]) -> None:
    with pytest.raises(ValueError, match="the page has markers for the tables"):
        with_tables(PAGE, dict.fromkeys(names, ""))


def test_values_in_the_order_of_the_seeds_with_mean_and_spread() -> None:
    rows = [
        {"data": data, "number": "auc", "seed": seed, "value": value}
        for data, seed, value in (("a", "10", "3"), ("a", "2", "1"), ("b", "0", "9"))
    ]
    assert pick(rows, "auc", data="a") == [1, 3]
    assert shown([1.0, 3.0]) == "2.000 ± 1.414"
    assert [shown([0.5], digits=1), shown([])] == ["0.5", "-"]
