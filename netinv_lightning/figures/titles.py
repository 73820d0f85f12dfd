"""Texts of figures: titles that fit above them, shortened names."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib.figure import Figure

LETTER = 0.068  # inches, mean width of a letter of tick labels
LONGEST_NAME = 24  # characters; longer class names are cut


@contextmanager
def literal_text() -> Iterator[None]:
    """Context and decorator in which dollar signs in texts are literal."""
    with matplotlib.rc_context({"text.parse_math": False}):
        yield


def short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def wrapped(text: str, inches: float) -> str:
    """Break the text into lines of at most this width."""
    return textwrap.fill(text, int(inches / LETTER), break_on_hyphens=False)


def title_above(figure: Figure, title: str) -> None:
    """Add a title that is wrapped to the width of the figure; the figure grows by its height."""
    lines = [" ".join(line.split()) for line in title.splitlines() if line.strip()]
    if not lines:
        return
    drawn, room, characters = (
        figure.suptitle("\n".join(lines)),
        0.96 * figure.bbox.width,
        max(map(len, lines)),
    )
    while (wide := drawn.get_window_extent().width) > room and characters > 1:
        characters = max(min(int(characters * room / wide), characters - 1), 1)
        drawn.set_text("\n".join(_even_lines(line, characters) for line in lines))
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + drawn.get_window_extent().height / figure.dpi)


def _even_lines(text: str, characters: int) -> str:
    """Wrap text into the smallest number of lines, with about equal lengths."""
    lines = len(textwrap.wrap(text, characters))
    shortest = math.ceil((len(text) + 1) / lines) - 1  # a line break replaces a space
    return textwrap.fill(
        text,
        next(
            width
            for width in range(shortest, characters + 1)
            if len(textwrap.wrap(text, width)) == lines
        ),
    )


def with_first_of(title: str, drawn: int, total: int, what: str) -> str:
    """Return the title with a note if only the first `drawn` of `total` things are drawn.

    Args:
        title: The title; may be empty.
        drawn: How many are drawn.
        total: How many there are.
        what: What they are, in the plural.
    """
    return title if drawn >= total else f"{title} (first {drawn} of {total} {what})".strip()
