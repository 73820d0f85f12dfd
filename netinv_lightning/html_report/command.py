"""`netinv report`: one HTML page of a run, a sweep or a folder of runs.

netinv report runs/latest                        write runs/latest/report.html and print its path
netinv report sweeps/mnist_invert/STAMP          the same for a sweep
netinv report runs/mnist_invert --output FILE    compare the runs of a folder; write to another file
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from netinv_lightning.errors import CommandParser, InputError, exit_status, one_line
from netinv_lightning.html_report.job import PAGE
from netinv_lightning.html_report.outcome import is_run
from netinv_lightning.html_report.render import render
from netinv_lightning.html_report.run_contents import Run, read_run
from netinv_lightning.html_report.sweep_contents import Sweep, is_sweep, read_sweep, runs_in
from netinv_lightning.runs.file_writing import write_atomically
from netinv_lightning.runs.sweep_directory import read_manifest

ALLOWED = "Give the directory of a run (runs/latest) or of a sweep, or a folder of runs"


def main(argv: Sequence[str]) -> int:
    """Run the `netinv report` command.

    Returns:
        The exit status: 0 done, 2 wrong input.
    """
    try:
        arguments = _parse(argv)
        directory = _directory(arguments.directory)
        output = _output(arguments.output, directory)
        run, sweep = read(directory)
        _write(output, render(run, sweep, output))
    except InputError as error:
        return exit_status(error)
    for problem in dict.fromkeys(
        [*(run.problems if run else []), *(sweep.problems if sweep else [])]
    ):
        print(f"warning: {problem}", file=sys.stderr)
    print(output, flush=True)
    return 0


def write_report(directory: Path) -> Path:
    """Write the page of a run directory into it; return its path.

    Raises:
        InputError: if it cannot be written.
    """
    output = _output(None, directory)
    _write(output, render(*read(directory), output))
    return output


def read(directory: Path) -> tuple[Run | None, Sweep | None]:
    """Read a run, several runs, or a run that contains other runs (such as a benchmark).

    Raises:
        InputError: if there is no run.
    """
    if is_sweep(directory):
        return None, read_sweep(directory)
    below = runs_in(directory)
    if is_run(directory):
        return read_run(directory, _overrides(directory)), read_sweep(directory) if below else None
    if not below:
        raise InputError(f"{directory}: contains no run. {ALLOWED}{_suggestion(directory)}")
    return None, read_sweep(directory)


def _overrides(directory: Path) -> list[str] | None:
    """Return the overrides of a sweep's job; None for other runs or a damaged `sweep.json`."""
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
        help="directory of a run, of a sweep, or of several runs; runs/latest is the newest run",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help=f"file to write; default: {PAGE} in the directory",
    )
    return parser.parse_args(argv)


def _directory(given: Path) -> Path:
    if not given.is_dir():
        raise InputError(f"{given}: is not a directory. {ALLOWED}")
    if not os.access(given, os.R_OK | os.X_OK):
        raise InputError(f"{given}: permission denied. Give a directory that you can read")
    return given.resolve()  # the target of runs/latest changes with the next run


def _output(given: Path | None, directory: Path) -> Path:
    output = directory / PAGE if given is None else given.absolute()
    if output.is_dir():
        raise InputError(f"--output={given}: is a directory. Give a file, such as {output / PAGE}")
    if not output.parent.is_dir():
        raise InputError(
            f"--output={given}: its folder does not exist. Create {output.parent}, "
            "or give another file"
        )
    return output


def _write(output: Path, page: str) -> None:
    try:
        # Bytes of file names that are not valid text become question marks.
        write_atomically(output, page.encode("utf-8", "replace").decode("utf-8"))
    except OSError as error:
        with suppress(OSError):
            output.with_name(f"{output.name}.partial").unlink()
        raise InputError(
            f"{output}: cannot be written ({one_line(error.strerror)}). "
            "Give another file with --output FILE"
        ) from None


def _suggestion(directory: Path) -> str:
    """Return a subfolder that contains runs, for the message."""
    with suppress(OSError):
        found = [
            child
            for child in sorted(directory.iterdir())
            if child.is_dir() and (is_sweep(child) or runs_in(child))
        ]
        if found:
            return f", for example {found[0]}"
    return ""
