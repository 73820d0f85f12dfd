"""`netinv dashboard`: save the W&B dashboard, or print it.

netinv dashboard --entity ME --project netinv      save it as a view of the project, print its URL
netinv dashboard --json -                          print the view; needs no network and no login
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from netinv_lightning.dashboard import workspace
from netinv_lightning.data.specs import SPECS
from netinv_lightning.errors import CommandParser, InputError, exit_status, nearest


def main(argv: Sequence[str]) -> int:
    """Run the `netinv dashboard` command.

    Returns:
        The exit status: 0 done, 1 W&B did not save the dashboard, 2 wrong input.
    """
    try:
        arguments = _parse(argv)
        try:
            view = workspace.build(arguments.entity or "", arguments.project, arguments.data)
        except ImportError as error:
            raise InputError(
                f"netinv dashboard: wandb-workspaces is not installed ({error}). "
                "Install it with pip install 'netinv_lightning[dashboard]'"
            ) from error
        if arguments.json is None:
            print(workspace.publish(view))
        elif arguments.json == "-":
            print(workspace.spec(view))
        else:
            _write(Path(arguments.json), workspace.spec(view))
            print(arguments.json)
    except Exception as error:  # includes errors of the network and of W&B's server
        return exit_status(error, "the dashboard was not saved")
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser(
        prog="netinv dashboard",
        description="Save the W&B dashboard of network inversion as a view of a project.",
    )
    parser.add_argument(
        "--entity",
        default=os.environ.get("WANDB_ENTITY"),
        help="user or team; default: $WANDB_ENTITY",
    )
    parser.add_argument(
        "--project",
        default=os.environ.get("WANDB_PROJECT", "netinv"),
        help="project; default: $WANDB_PROJECT or netinv",
    )
    parser.add_argument(
        "--data",
        default="mnist",
        help="data set whose classes are listed; default: mnist",
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="write the view to FILE (- for standard output) instead of saving it at W&B",
    )
    arguments = parser.parse_args(argv)
    if arguments.data not in SPECS:
        raise InputError(f"--data={arguments.data}: {nearest(arguments.data, SPECS)}")
    if not arguments.entity and arguments.json is None:
        raise InputError(
            "--entity: is missing. Give the user or team that owns the project, or set WANDB_ENTITY"
        )
    return arguments


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n")
    except OSError as error:
        raise InputError(
            f"--json={path}: cannot be written ({error.strerror}). "
            "Give a file in an existing folder"
        ) from error
