"""What W&B keeps of an offline run, read by its own reader."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

Compose = Callable[..., DictConfig]
OFFLINE = ("logger=wandb", "logger.mode=offline")


def leet(folder: Path, *options: str) -> str:
    """Return the contents of a run's folder, read by W&B's own reader without network."""
    command = [Path(sys.executable).parent / "wandb", "leet", "inspect", folder, "--json", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def parts(run_dir: Path) -> list[dict[str, Any]]:
    """Return the offline parts of a run, oldest first: id, config, summary, exit code, tags."""
    folders = sorted(
        (run_dir / "wandb").glob("offline-run-*"), key=lambda folder: folder.stat().st_ctime_ns
    )
    return [json.loads(leet(folder, "--summary")) for folder in folders]


def warnings_of_wandb(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "netinv_lightning" and "W&B" in record.getMessage()
    ]
