"""Command-line options that several scripts have."""

from __future__ import annotations

import argparse
from collections.abc import Collection


def add_tables(parser: argparse.ArgumentParser, results: str) -> None:
    """Add `--tables`, with which a script only writes the tables of a file into its page."""
    parser.add_argument(
        "--tables",
        action="store_true",
        help=f"only write the tables of {results} into README.md; run nothing",
    )


def add_runs(parser: argparse.ArgumentParser, known: Collection[str]) -> None:
    """Add `--runs`: names of runs with commas between them, in the order of `known`."""

    def chosen(text: str) -> list[str]:
        if unknown := set(text.split(",")) - set(known):
            raise argparse.ArgumentTypeError(
                f"{','.join(sorted(unknown))}: choose from {', '.join(known)}"
            )
        return [name for name in known if name in text.split(",")]

    parser.add_argument(
        "--runs",
        type=chosen,
        default=list(known),
        help="names of runs, with commas between them (default: all)",
    )
