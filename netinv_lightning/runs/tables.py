"""Write a table as CSV and as Markdown, and print it, all from the same rows."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from netinv_lightning.errors import printable
from netinv_lightning.runs.file_writing import write_atomically

WIDTH = 100
"""Width of a printed line in characters if the output is not a terminal."""
GAP = 2
"""Characters between two printed columns."""
Cell = str | float | int | None
"""None is an empty cell."""


@dataclass
class Table:
    """Rows of cells below column names, and notes below them; without columns, only the notes.

    Attributes:
        full: A table with more columns or rows to be written as CSV instead of this one.
        document: Markdown text to be written instead of that of this table; it contains the table.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = field(default_factory=list)
    full: Table | None = None
    document: str = ""


def write_table(table: Table, directory: Path, stem: str) -> None:
    """Write a table as `stem`.md and `stem`.csv in a directory."""
    write_csv(table.full or table, directory / f"{stem}.csv")
    write_atomically(directory / f"{stem}.md", table.document or markdown(table))


def write_csv(table: Table, path: Path) -> None:
    """Write the cells of a table as CSV, with numbers in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    write_atomically(path, text.getvalue())


def markdown(table: Table) -> str:
    """Return the title, the rounded cells and the notes of a table as Markdown."""
    lines = [f"# {table.title}"]
    if table.columns:
        lines += ["", _markdown_row(table.columns), _markdown_row(["---"] * len(table.columns))]
    lines += [_markdown_row([format_cell(cell) for cell in row]) for row in table.rows]
    lines += ["", *(f"- {note}" for note in table.notes)] if table.notes else []
    return "\n".join(lines) + "\n"


def print_table(table: Table) -> None:
    """Print a table in the width of the terminal, or wider if its cells do not fit."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    title = Text(printable(table.title), style="table.title")
    if not table.columns:
        console.print(title)
        for note in table.notes:
            console.print(Text(printable(note)))
        return
    printed = RichTable(
        title=title, title_justify="left", box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False
    )
    numbers = range(len(table.columns))
    cells = [[format_cell(row[number]) for row in table.rows] for number in numbers]
    numeric = [all(re.fullmatch(r"[-0-9. ±]*", cell) for cell in column) for column in cells]
    widths = _column_widths(table.columns, cells, numeric, console.width)
    console.width = max(console.width, sum(widths) + GAP * len(widths))
    for column, of_numbers, width in zip(table.columns, numeric, widths, strict=True):
        printed.add_column(Text(column), justify="right" if of_numbers else "left", width=width)
    for row in zip(*cells, strict=True):
        printed.add_row(*map(Text, row))
    console.print(printed)
    for note in table.notes:
        console.print(Text(printable(note)))


def _column_widths(
    names: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool], room: int
) -> list[int]:
    """Return the width of each column in characters.

    Numbers and the longest words are not broken, even if the table becomes wider than `room`.
    Columns of words share the space that is left. Without given widths, rich would omit whole
    columns.

    Args:
        names: The name of each column.
        cells: The texts of each column.
        numeric: Whether each column contains only numbers.
        room: Characters of a line.
    """
    longest = [max(map(len, column), default=0) for column in cells]
    words = [
        max((len(word) for cell in [name, *column] for word in cell.split()), default=0)
        for name, column in zip(names, cells, strict=True)
    ]
    widths = [
        max(word, cell) if of_numbers else word
        for word, cell, of_numbers in zip(words, longest, numeric, strict=True)
    ]
    free = max(0, room - GAP * len(names) - sum(widths))
    for number, name in enumerate(names):
        extra = min(max(longest[number], len(name)) - widths[number], free)
        widths[number] += extra
        free -= extra
    return widths


def format_cell(cell: Cell) -> str:
    """Return the text of a cell; fractions have about three digits, thousands no decimals."""
    if cell is None:
        return ""
    if not isinstance(cell, float):
        return printable(str(cell))
    if abs(cell) >= 1000:
        return f"{cell:.0f}"
    return f"{cell:.1f}" if abs(cell) >= 10 else f"{cell:z.3f}"  # z: no negative zero


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
