"""Hashes and versions of what determines a trained classifier."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from netinv_lightning.classifiers.checkpoints import sha256
from netinv_lightning.config.instantiate import locate


def facts_hash(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def content_hash(path: Path) -> str:
    """Return the hash of an .npz file, or of the paths and contents of all files in a folder."""
    return files_hash(path, path.rglob("*") if path.is_dir() else [path])


def files_hash(root: Path, files: Iterable[Path]) -> str:
    lines = sorted(f"{file.relative_to(root)} {sha256(file)}" for file in files if file.is_file())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def versions(target: str) -> dict[str, str]:
    """Return the versions of this package, of torch, and of the package of the network."""
    found = {}
    for package in ("netinv_lightning", "torch", target.partition(".")[0]):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # a user's own module
            continue
    return found


def source_hash(target: str) -> str | None:
    """Return the hash of the file that defines the network; None if there is no such file."""
    try:
        file = inspect.getsourcefile(locate(target, "classifier.network._target_"))
    except Exception:  # importing foreign code may raise anything
        return None
    return None if file is None else sha256(Path(file))
