"""A table as CSV, as Markdown and on the terminal, all three from the same rows."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from netinv_lightning.errors import printable
from netinv_lightning.runs.run_directory import write_atomically

WIDTH = 100  # of a table, in characters
BETWEEN = 2  # columns of a table
Cell = str | float | int | None
"""None is shown as an empty cell."""


@dataclass
class Table:
    """Rows of cells below column names, and notes below them.

    Attributes:
        full: A table with more columns or rows, which is written as CSV instead of this one.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = field(default_factory=list)
    full: Table | None = None


def write_table(table: Table, directory: Path, stem: str) -> None:
    """Write a table as `stem`.md, and as `stem`.csv beside it."""
    write_csv(table.full or table, directory / f"{stem}.csv")
    _write_markdown(table, directory / f"{stem}.md")


def write_csv(table: Table, path: Path) -> None:
    """Numbers in full precision; no title and no notes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    write_atomically(path, text.getvalue())


def _write_markdown(table: Table, path: Path) -> None:
    lines = [
        f"# {table.title}",
        "",
        _markdown_row(table.columns),
        _markdown_row(["---"] * len(table.columns)),
    ]
    lines += [_markdown_row([shown(cell) for cell in row]) for row in table.rows]
    lines += ["", *(f"- {note}" for note in table.notes)] if table.notes else []
    write_atomically(path, "\n".join(lines) + "\n")


def show(table: Table) -> None:
    """Prints the table: as wide as the terminal, without one 100 columns, and wider where it would lose cells."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    title = Text(printable(table.title), style="table.title")
    printed = RichTable(
        title=title, title_justify="left", box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False
    )
    columns = [[shown(row[number]) for row in table.rows] for number in range(len(table.columns))]
    numeric = [all(re.fullmatch(r"[-0-9. ±]*", cell) for cell in cells) for cells in columns]
    longest = [max(map(len, cells), default=0) for cells in columns]
    # Numbers and the longest words stay whole, and columns of words share what room is left; rich itself would leave whole columns out.
    words = [
        max((len(word) for cell in [column, *cells] for word in cell.split()), default=0)
        for column, cells in zip(table.columns, columns, strict=True)
    ]
    widths = [
        max(word, cell) if of_numbers else word
        for word, cell, of_numbers in zip(words, longest, numeric, strict=True)
    ]
    room = console.width - BETWEEN * len(columns) - sum(widths)
    console.width += max(0, -room)
    for number, column in enumerate(table.columns):
        more = min(max(longest[number], len(column)) - widths[number], max(0, room))
        widths[number] += more
        room -= more
    for column, of_numbers, width in zip(table.columns, numeric, widths, strict=True):
        printed.add_column(Text(column), justify="right" if of_numbers else "left", width=width)
    for cells in zip(*columns, strict=True):
        printed.add_row(*map(Text, cells))
    console.print(printed)
    for note in table.notes:
        console.print(Text(printable(note)))


def shown(cell: Cell) -> str:
    """A number as it is read: three digits or so, and thousands without decimals."""
    if cell is None:
        return ""
    if not isinstance(cell, float):
        return printable(str(cell))
    return (
        f"{cell:.0f}" if abs(cell) >= 1000 else f"{cell:.1f}" if abs(cell) >= 10 else f"{cell:z.3f}"
    )  # z: no negative zero


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
