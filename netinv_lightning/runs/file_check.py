"""Check, without torch, that files are readable and complete."""

from __future__ import annotations

import json
import os
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


def check_file(path: Path, where: str) -> None:
    """Refuse a path that is not a readable, non-empty file.

    Raises:
        InputError: beginning with `where`, the key and its value.
    """
    try:
        if path.is_dir():
            raise InputError(f"{where}: is a folder; give a file")
        if not path.exists():
            raise InputError(f"{where}: there is no such file (looked for {path.absolute()})")
        if not path.is_file():
            raise InputError(f"{where}: is not a regular file; give a file")
        if not path.stat().st_size:
            raise InputError(f"{where}: the file is empty; copy or download it again")
    except OSError as error:  # such as a name that is too long
        raise InputError(f"{where}: cannot be read ({error.strerror})") from error
    if not os.access(path, os.R_OK):
        raise InputError(f"{where}: permission denied; make it readable")


def check_safetensors(path: Path, where: str) -> dict[str, list[int]]:
    """Return the shapes of the tensors in a safetensors file, read from its header alone.

    Raises:
        InputError: beginning with `where`, the key and its value, if header or length are wrong.
    """
    check_file(path, where)
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            if length > size - 8:
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            ends = [entry["data_offsets"][1] for entry in header.values()]
            if 8 + length + max(ends, default=0) != size:
                raise ValueError(
                    f"{8 + length + max(ends, default=0)} bytes expected, {size} found"
                )
            return {name: list(entry["shape"]) for name, entry in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                f"{where}: is not a complete safetensors file ({one_line(error)[:120]}); copy or "
                "download it again"
            ) from error


def check_npz(path: Path, where: str) -> None:
    """Refuse a path that is neither a whole .npz file nor a folder of .npy files.

    Raises:
        InputError: beginning with `where`, the key and its value.
    """
    if path.is_dir():
        if not any(path.glob("*.npy")):
            raise InputError(
                f"{where}: is a folder without .npy files. Give an .npz file, a folder with X.npy "
                "and y.npy, or pictures with data=image_folder"
            )
        return
    if path.suffix == ".npy":
        raise InputError(
            f"{where}: is a single array. Give its folder, with X.npy and y.npy, or an .npz file"
        )
    check_file(path, where)
    try:
        with zipfile.ZipFile(path) as content:
            content.namelist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise InputError(
            f"{where}: is not a complete .npz file ({one_line(error)}). Write it with numpy.savez"
        ) from error
