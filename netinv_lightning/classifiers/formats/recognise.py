"""Files and folders that describe their own network, recognised without importing torch."""

from __future__ import annotations

import zipfile
from pathlib import Path

EXPORTED, ONNX, HUGGING_FACE = "torch.export", "ONNX", "Hugging Face"


def format_of(path: Path) -> str | None:
    """Return the format of a file or folder that contains its own network; None for others.

    A program of `torch.export` contains `models/<name>.json`, an ONNX file ends in `.onnx`, and a
    folder of Hugging Face contains `config.json`.
    """
    if path.is_dir():
        return HUGGING_FACE if (path / "config.json").is_file() else None
    if path.suffix.lower() == ".onnx":
        return ONNX
    if path.suffix.lower() == ".pt2" or any(is_program(name) for name in archive_names(path)):
        return EXPORTED
    return None


def is_program(name: str) -> bool:
    """Return whether a member of an archive is the graph of an exported program."""
    return name.endswith(".json") and name.split("/")[-2:-1] == ["models"]


def archive_names(path: Path) -> list[str]:
    """Return the names in a zip archive; none if the file is not one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return []


def is_torchscript(path: Path) -> bool:
    """Return whether the file is a TorchScript archive."""
    return any("/code/" in name or name.endswith("/constants.pkl") for name in archive_names(path))
