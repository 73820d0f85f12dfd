"""`netinv retry SWEEP_DIRECTORY`: run the command of a sweep again, in its directory."""

from __future__ import annotations

import os
from pathlib import Path

from netinv_lightning.config.outside_config import check_words
from netinv_lightning.errors import InputError
from netinv_lightning.runs.sweep_directory import MANIFEST, read_manifest

RETRY_USAGE = """\
netinv retry SWEEP_DIRECTORY [hydra/launcher=NAME] [hydra.KEY=VALUE ...] [trusted=[...]]

Runs the command of a sweep again in its directory: finished jobs are kept, interrupted jobs are
resumed, and failed or missing jobs are run. Only Hydra's own settings may change."""


def retry_arguments(arguments: list[str]) -> list[str]:
    """Return the command of a sweep for `netinv retry SWEEP_DIRECTORY [hydra/launcher=...]`.

    The working directory becomes that of the first command, whose paths are relative to it.

    Raises:
        InputError: if it is not a sweep, if a key other than Hydra's own settings is to change, or
            if the stored command needs the consent of the user.
    """
    if not arguments:
        raise InputError("retry: the sweep is missing; give netinv retry SWEEP_DIRECTORY")
    path, given = Path(arguments[0]).absolute(), arguments[1:]
    manifest = read_manifest(path)
    command = manifest["command"]
    trusted = [word for word in given if word.startswith("trusted=")]
    changes = [word for word in given if word not in (*command, *trusted)]
    for word in changes:
        if not word.lstrip("+~").startswith(("hydra.", "hydra/")):
            raise InputError(
                f"{word}: would change the jobs of the sweep; a retry accepts Hydra's own settings "
                "(hydra...=), words of the sweep's own command that need your consent, and "
                "trusted=[...]"
            )
    _change_folder(Path(manifest.get("cwd", "")))
    _check_command([word for word in command if word not in given], path / MANIFEST, trusted)
    return [*command, *changes, f"hydra.sweep.dir={path}"]


def _change_folder(folder: Path) -> None:
    """Change the working directory; modules in it must not replace packages in new processes."""
    if folder.is_dir() and folder.resolve() != Path.cwd().resolve():
        os.chdir(folder)
        os.environ["PYTHONSAFEPATH"] = "1"


def _check_command(command: list[str], where: Path, trusted: list[str]) -> None:
    """Refuse a stored command that leads to code, to the network or to files elsewhere.

    Args:
        command: The words that the user has not repeated.
        where: The manifest, for the message.
        trusted: The user's `trusted=[...]`.

    Raises:
        InputError: naming the word.
    """
    words = [word for word in command if word not in ("-m", "--multirun")]
    for word in words:
        if word.startswith("-"):
            raise InputError(
                f"{where}: command: {word}: is not taken from a file; repeat it: netinv retry "
                f"{where.parent} {word}"
            )
    names = [
        name.strip(" '\"")
        for argument in trusted
        for name in argument.removeprefix("trusted=").strip("[]").split(",")
    ]
    check_words(words, f"{where}: command", [name for name in names if name])
