"""The `netinv` command with jobs that count instead of training, so that no process imports torch.

Everything else is real: the sweeps, the run directory, its lock, its status, resume. A job that
has written its first checkpoint waits for a file in the working directory of the command: `go`, or
`go3` for job 3. So a test can kill processes at a known moment.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from omegaconf import DictConfig

from netinv_lightning import run as entry
from netinv_lightning.config.validate import check
from netinv_lightning.runs import run_directory
from netinv_lightning.runs.run_directory import RunDir

ROOT = Path(__file__).parents[2]
STEPS = 4
GO = "COUNTING_COMMAND_GO"
"""Environment variable with the path of the file `go`."""


def start(arguments: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    """Start the command in a folder, where its output is written to `stdout` and `stderr`."""
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT), GO: str(folder / "go")}
    environment.pop("OMP_NUM_THREADS", None)  # joblib divides the cores itself
    code = "from tests.runs.counting_command import main; main()"
    with (folder / "stdout").open("ab") as stdout, (folder / "stderr").open("ab") as stderr:
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code, *arguments],
            cwd=folder,
            env=environment,
            stdout=stdout,
            stderr=stderr,
        )


def main() -> None:
    """Run the command; workers receive `count` with Hydra's task."""
    entry.run = count
    entry.main()


def count(cfg: DictConfig, job_dir: Path, resuming: bool = False) -> dict[str, float]:
    """Count from the last checkpoint to `STEPS`, with a checkpoint at every step.

    `starts.txt` gets a line with the step at which each process starts. The best metric is the
    reciprocal of the weight of the KL term.
    """
    check(cfg)
    run_dir = RunDir(job_dir, resuming)
    run_dir.check_usable()
    with patch.object(run_directory, "describe_environment", _environment), run_dir.open(cfg):
        first = _step(run_dir.last_checkpoint)
        with (job_dir / "starts.txt").open("a") as file:
            file.write(f"{first}\n")
        for step in range(first + 1, STEPS + 1):
            save(step, run_dir)
            while not any(map(os.path.exists, (os.environ[GO], os.environ[GO] + job_dir.name))):
                time.sleep(0.02)
        accuracy = 1 / cfg.loss.kl.weight
        metrics = {"inversion/accuracy": accuracy, "inversion/accuracy_hot": accuracy / 2}
        run_dir.write_summary(metrics)
        run_dir.record(best_metric=accuracy)
    return metrics


def _environment() -> dict[str, Any]:
    """Return the number of threads that torch reads when it is imported."""
    return {"threads": os.environ.get("OMP_NUM_THREADS")}


def save(step: int, run_dir: RunDir) -> None:
    """Write the checkpoint of a step."""
    run_dir.checkpoints.mkdir(exist_ok=True)
    partial = run_dir.checkpoints / "last.partial"
    with zipfile.ZipFile(partial, "w") as content:
        content.writestr("step", str(step))
    partial.replace(run_dir.checkpoints / "last.ckpt")


def _step(checkpoint: Path | None) -> int:
    if checkpoint is None:
        return 0
    with zipfile.ZipFile(checkpoint) as content:
        return int(content.read("step"))
