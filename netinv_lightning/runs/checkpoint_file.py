"""Check, without torch, that a checkpoint is a complete file."""

from __future__ import annotations

import zipfile
from pathlib import Path

from netinv_lightning.errors import InputError, one_line


def check_checkpoint(path: Path, where: str, remedy: str) -> None:
    """Refuse a checkpoint that is truncated, empty, or not a checkpoint.

    Args:
        path: The file, a zip archive as `torch.save` writes it.
        where: The key that names the run and its value, for the message.
        remedy: What the user can do, for the message.

    Raises:
        InputError: beginning with `where`.
    """
    try:
        with zipfile.ZipFile(path) as content:
            if (broken := content.testzip()) is not None:
                raise zipfile.BadZipFile(f"wrong checksum of {broken}")
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError) as error:
        raise InputError(
            f"{where}: checkpoints/{path.name} is not a complete checkpoint "
            f"({one_line(error)[:120]}); {remedy}"
        ) from error
