"""Describe what determines a result besides the config: code, library versions, machine."""

from __future__ import annotations

import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "netinv_lightning",
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "hydra-core",
    "wandb",
    "numpy",
)


def describe_environment() -> dict[str, Any]:
    """Return the content of `environment.json`."""
    import torch

    return {
        "command": sys.argv,
        "git_sha": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain")),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"{platform.processor() or platform.machine()} CPU",
        "threads": torch.get_num_threads(),
    }


@cache  # each look-up reads the metadata of the package
def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """Return the output of git for the checkout of the package; None for an installed wheel."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        return None
    try:
        return subprocess.run(
            ["git", "-C", str(checkout), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
