"""`netinv report`: one HTML page of a run, a sweep or a folder of runs, to be opened in any browser.

netinv report runs/latest                        writes runs/latest/report.html and prints its path
netinv report sweeps/mnist_invert/STAMP          the same for a sweep
netinv report runs/mnist_invert --output FILE    the runs of a folder, side by side, to another place
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from netinv_lightning.errors import CommandParser, InputError, one_line
from netinv_lightning.html_report.render import render
from netinv_lightning.html_report.run_contents import Run, is_run, read_run
from netinv_lightning.html_report.sweep_contents import PAGE, Sweep, is_sweep, read_sweep, runs_in
from netinv_lightning.runs.run_directory import write_atomically
from netinv_lightning.runs.sweep import read_manifest


def main(argv: Sequence[str]) -> int:
    """`netinv report ...`; gives the exit status: 0 done, 2 the input was wrong."""
    try:
        arguments = _parse(argv)
        directory = _directory(arguments.directory)
        output = _output(arguments.output, directory)
        run, sweep = read(directory)
        _write(output, render(run, sweep, output))
    except InputError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    for problem in dict.fromkeys(
        [*(run.problems if run else []), *(sweep.problems if sweep else [])]
    ):
        print(f"warning: {problem}", file=sys.stderr)
    print(output, flush=True)
    return 0


def read(directory: Path) -> tuple[Run | None, Sweep | None]:
    """What there is to show: a run, several runs, or a run that holds several, as a benchmark's does.

    Raises:
        InputError: if there is no run at all.
    """
    if is_sweep(directory):
        return None, read_sweep(directory)
    below = runs_in(directory)
    if is_run(directory):
        return read_run(directory, _overrides(directory)), read_sweep(directory) if below else None
    if not below:
        raise InputError(
            f"{directory}: holds no run; give the directory of a run (runs/latest), of a sweep, or a folder of runs{_near(directory)}"
        )
    return None, read_sweep(directory)


def _overrides(directory: Path) -> list[str] | None:
    """Of the job of a sweep; None for another run, and where the sweep's own file is damaged."""
    with suppress(InputError, AttributeError, TypeError):
        jobs = read_manifest(directory.parent)["jobs"]
        if isinstance(job := jobs.get(directory.name), list):
            return [str(word) for word in job]
    return None


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser(
        prog="netinv report",
        description="One self-contained HTML page of a run, a sweep or a folder of runs.",
    )
    parser.add_argument(
        "directory",
        type=Path,
        help="of a run, of a sweep, or of several runs; runs/latest is the newest run",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help=f"where to write the page; by default {PAGE} in the directory",
    )
    return parser.parse_args(argv)


def _directory(given: Path) -> Path:
    if not given.is_dir():
        raise InputError(
            f"{given}: is no directory; give the directory of a run (runs/latest), of a sweep, or a folder of runs"
        )
    if not os.access(given, os.R_OK | os.X_OK):
        raise InputError(f"{given}: cannot be read; ask its owner for leave")
    return given.resolve()  # what runs/latest points at changes with the next run


def _output(given: Path | None, directory: Path) -> Path:
    output = directory / PAGE if given is None else given.absolute()
    if output.is_dir():
        raise InputError(f"--output={given}: is a directory; name a file, such as {output / PAGE}")
    if not output.parent.is_dir():
        raise InputError(
            f"--output={given}: its folder does not exist; make {output.parent}, or name another file"
        )
    return output


def _write(output: Path, page: str) -> None:
    try:
        # A file's name may hold what is no text; it is shown with question marks.
        write_atomically(output, page.encode("utf-8", "replace").decode("utf-8"))
    except OSError as error:
        with suppress(OSError):
            output.with_name(f"{output.name}.partial").unlink()
        raise InputError(
            f"{output}: cannot be written ({one_line(error.strerror)}); name another place with --output FILE"
        ) from None


def _near(directory: Path) -> str:
    """Folders below that do hold runs, for the message."""
    with suppress(OSError):
        found = [
            child
            for child in sorted(directory.iterdir())
            if child.is_dir() and (is_sweep(child) or runs_in(child))
        ]
        if found:
            return f", such as {found[0]}"
    return ""
