"""Tables of results.csv in the page of an experiment, and the command line of all experiments."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from experiments.jobs import Row, read_rows, run_missing
from experiments.options import add_tables


def pick(rows: list[Row], number: str, **where: str) -> list[float]:
    """Return the values of a number from rows that match `where`, in the order of the seeds."""
    chosen = [
        row
        for row in rows
        if row["number"] == number and all(row[column] == value for column, value in where.items())
    ]
    return [float(row["value"]) for row in sorted(chosen, key=lambda row: int(row["seed"]))]


def shown(values: Sequence[float], digits: int = 3) -> str:
    """Return mean ± standard deviation over the seeds, the value of a single seed, or a dash."""
    if len(values) > 1:
        return f"{mean(values):.{digits}f} ± {stdev(values):.{digits}f}"
    return "".join(f"{value:.{digits}f}" for value in values) or "-"


def markdown(columns: list[str], lines: list[list[str]]) -> str:
    """Return a Markdown table."""
    return (
        "\n".join(f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *lines))
        + "\n"
    )


def with_tables(page: str, tables: dict[str, str]) -> str:
    """Return the page with each table inserted between `<!-- table: NAME -->` and `<!-- end -->`.

    Raises:
        ValueError: If the page has no marker for a table, or a marker without a table.
    """
    places = re.compile(r"(?<=<!-- table: )([\w-]+) -->\n.*?(?=<!-- end -->)", re.DOTALL)
    if sorted(found := places.findall(page)) != sorted(tables):
        raise ValueError(
            f"the page has markers for the tables {found}, but the script makes {list(tables)}. "
            "Change the markers in the page"
        )
    return places.sub(lambda place: f"{place[1]} -->\n{tables[place[1]]}", page)


def run_experiment(
    description: str | None,
    folder: Path,
    keys: Sequence[str],
    jobs: Iterable[tuple[Any, ...]],
    one: Callable[..., list[Row]],
    tables: Callable[[list[Row]], dict[str, str]],
    at_once: int = 2,
) -> None:
    """Parse the command line, run the missing jobs, and write the tables into README.md.

    Args:
        description: The docstring of the script; its first line is shown by `--help`.
        folder: The folder of the experiment, with results.csv and README.md.
        keys: See `run_missing`.
        jobs: See `run_missing`.
        one: See `run_missing`.
        tables: Makes the tables of the page, by name, from all rows.
        at_once: See `run_missing`.
    """
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    results, page = folder / "results.csv", folder / "README.md"
    add_tables(parser, results.name)
    if not parser.parse_args().tables:
        run_missing(results, keys, jobs, one, at_once)
    page.write_text(with_tables(page.read_text(), tables(read_rows(results))))
