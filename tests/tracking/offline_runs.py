"""What W&B keeps of an offline run, read by its own reader."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb.util
from omegaconf import DictConfig

Compose = Callable[..., DictConfig]
OFFLINE = ("logger=wandb", "logger.mode=offline")


def leet(folder: Path, *options: str) -> str:
    """Return the contents of a run's folder, read by W&B's own reader without network.

    This is what `wandb leet inspect` starts; the command itself would import all of wandb first.
    """
    (run_file,) = folder.glob("run-*.wandb")
    reader = [wandb.util.get_core_path(), "leet", "inspect", "--no-observability"]
    command = [*reader, "--json", *options, "--run-file", run_file]
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
