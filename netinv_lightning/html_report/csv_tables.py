"""Tables of a run: its CSV files, with title and notes of the Markdown file of the same name."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netinv_lightning.html_report.files import Folder
from netinv_lightning.runs.outside_files import MAX_BYTES, read_lines
from netinv_lightning.runs.tables import Table, format_cell

MOST_ROWS = 2000
WIDE = 14
"""Largest number of columns that are shown. A wider table is shown in the abridged form of its
Markdown file, if it has one."""
LONG = 200
"""Largest number of rows that are shown, if the Markdown file has fewer."""


@dataclass(frozen=True)
class CellShown:
    """A cell: its rounded text, its full value (for sorting) and the file that it links to."""

    text: str
    full: str
    link: Path | None = None


@dataclass(frozen=True)
class PageTable:
    """A table of a page; without columns, a list of its notes.

    If `folded`, its rows are hidden until a click.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[CellShown]]
    notes: Sequence[str] = ()
    folded: bool = False


def cell(value: Any) -> CellShown:
    """Return a value rounded as in `tables.format_cell`; numbers below 0.001 keep two digits."""
    if isinstance(value, float) and 0 < abs(value) < 0.001:
        return CellShown(f"{value:.2g}", str(value))
    text = (
        format_cell(value) if value is None or isinstance(value, (str, int, float)) else str(value)
    )
    return CellShown(text, text if value is None else str(value))


def read_tables(folder: Folder) -> list[PageTable]:
    """Return the tables of a run, sorted by file name."""
    tables = []
    for path in sorted(folder.path.glob("*.csv")):
        if path.name in ("metrics.csv", "sweep.csv"):
            continue
        table = _read_csv(folder, path)
        if table is None:
            continue
        abridged = _read_markdown(folder, path.with_suffix(".md").name)
        if abridged is None:
            abridged = Table(path.stem.replace("_", " ").capitalize(), table.columns, [])
        shown = Table(abridged.title, table.columns, table.rows, [*table.notes, *abridged.notes])
        if not abridged.columns:  # sentences, which say what the rows of the CSV file show
            shown = abridged
        elif abridged.rows and len(table.columns) > WIDE:
            abridged.notes = [*abridged.notes, f"all columns are in {path.name}"]
            shown = abridged
        elif len(abridged.rows) < LONG < len(table.rows) and abridged.rows:
            abridged.notes = [*abridged.notes, f"all rows are in {path.name}"]
            shown = abridged
        tables.append(page_table(shown))
    return tables


def page_table(table: Table, folded: bool = False) -> PageTable:
    return PageTable(
        table.title,
        table.columns,
        [[cell(value) for value in row] for row in table.rows],
        table.notes,
        folded,
    )


def _read_csv(folder: Folder, path: Path) -> Table | None:
    """Read a CSV file; None if it is empty or damaged. Damage is noted in `folder`."""
    count = left_out = 0
    rows: list[list[str]] = []
    try:
        content = csv.reader(read_lines(path, folder.path, MAX_BYTES), strict=True)
        columns = next(content, None)
        if columns is None:
            return None
        for row in content:
            count += 1
            if len(row) != len(columns):
                left_out += 1
            elif len(rows) < MOST_ROWS:
                rows.append(row)
    except (csv.Error, OSError, ValueError) as error:
        folder.failed(path.name, "is damaged", error)
        return None
    if left_out:
        folder.note(
            path.name,
            f"is damaged: {left_out} of {count} rows are left out (wrong number of columns)",
        )
    whole = count - left_out
    notes = [f"first {MOST_ROWS} of {whole} rows"] if whole > MOST_ROWS else []
    return Table("", columns, [[_number_or_text(value) for value in row] for row in rows], notes)


def _read_markdown(folder: Folder, name: str) -> Table | None:
    """Read a table that `tables.write_table` has written; its cells are text.

    Of a document with sections, only the part before the first section is read.
    """
    text = folder.text(name)
    if text is None:
        return None
    lines = text.partition("\n## ")[0].splitlines()
    title = next((line.removeprefix("# ") for line in lines if line.startswith("# ")), name)
    rows = [_markdown_cells(line) for line in lines if line.startswith("|")]
    notes = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
    columns = rows[0] if rows else []
    return Table(title, columns, [row for row in rows[2:] if len(row) == len(columns)], notes)


def _markdown_cells(line: str) -> list[str]:
    return [
        value.strip().replace("\\|", "|") for value in re.split(r"(?<!\\)\|", line.strip())[1:-1]
    ]


def _number_or_text(value: str) -> str | int | float:
    try:
        return int(value)
    except ValueError:
        pass
    try:
        number = float(value)
    except ValueError:
        return value
    return number if math.isfinite(number) else value
