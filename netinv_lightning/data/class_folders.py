"""The folders of a user's own images, one per class or per split; read without torch."""

from __future__ import annotations

from pathlib import Path

from netinv_lightning.errors import InputError, one_line


def class_folders(path: Path, where: str) -> list[Path]:
    """Return the folders in a folder, one per class, sorted by name, without hidden ones.

    Raises:
        InputError: beginning with `where`, the key and its value, if there are none.
    """
    if not path.is_dir():
        raise InputError(f"{where}: there is no such folder (looked for {path.absolute()})")
    if not (folders := subfolders(path, where)):
        raise InputError(f"{where}: contains no folders. Give one folder of images per class")
    return folders


def subfolders(path: Path, where: str) -> list[Path]:
    """Return the folders in a folder, sorted by name, without hidden ones.

    Raises:
        InputError: beginning with `where`, if the folder cannot be read.
    """
    try:
        return sorted(
            entry
            for entry in path.iterdir()
            if entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))
        )
    except OSError as error:
        raise InputError(
            f"{where}: cannot be read ({one_line(error.strerror or error)}). Give one folder of "
            "images per class"
        ) from error
