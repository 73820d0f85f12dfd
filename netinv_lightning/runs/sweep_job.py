"""One job of a sweep, in the process of the sweep or in a worker on any machine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from netinv_lightning.config.error_messages import explain
from netinv_lightning.errors import InputError, Preempted, one_line
from netinv_lightning.runs.job_device import set_device
from netinv_lightning.runs.marked_output import marked_output
from netinv_lightning.runs.resume import changed_keys, read_config
from netinv_lightning.runs.run_directory import RunDir, read_status
from netinv_lightning.runs.signals import SIGTERM_STATUS, end_with_parent
from netinv_lightning.runs.sweep_check import check_job
from netinv_lightning.runs.sweep_launcher import in_worker


def run_swept_job(cfg: DictConfig, job_dir: Path, run: Callable[..., Any]) -> float | None:
    """Run a job, or resume it if it was interrupted; a job that is done is left alone.

    Args:
        cfg: The config of the job.
        job_dir: Its run directory in the sweep.
        run: `netinv_lightning.applications.execution.run`.

    Returns:
        The best metric of the job.

    Raises:
        InputError: if its input is wrong, or the directory contains another job.
        RuntimeError: if it failed; a line of text, since some exceptions cannot be pickled.
    """
    if in_worker():
        end_with_parent()
        with marked_output(f"[job {job_dir.name}] "):
            return _run(cfg, job_dir, run)
    return _run(cfg, job_dir, run)


def _run(cfg: DictConfig, job_dir: Path, run: Callable[..., Any]) -> float | None:
    status = read_status(job_dir)
    if status.get("state") == "done":
        return status.get("best_metric")
    started = status.get("state") is not None and not status.get("refused")
    try:
        check_job(cfg)
        set_device(cfg)
        if started:
            _check_same_job(cfg, job_dir)
        run(cfg, job_dir, resuming=bool(status))
    except (InputError, OmegaConfBaseException) as error:
        if not started:
            run_dir = RunDir(job_dir)
            run_dir.record_refusal(cfg, explain(error))
            run_dir.record(refused=True)
        print(f"job {job_dir.name} refused: {one_line(explain(error))}", file=sys.stderr)
        raise InputError(explain(error)) from None
    except Exception as error:
        message = one_line(f"{type(error).__name__}: {error}")
        print(f"job {job_dir.name} failed: {message} (traceback in run.log)", file=sys.stderr)
        if isinstance(error, Preempted) and not in_worker():
            raise SystemExit(SIGTERM_STATUS) from None  # ends the whole sweep
        raise RuntimeError(message) from None
    except SystemExit as end:
        by_signal = end.code == SIGTERM_STATUS or isinstance(end.__context__, KeyboardInterrupt)
        if by_signal or in_worker():  # submitit requeues a preempted job in this way
            raise
        raise RuntimeError(f"exit({end.code}) was called") from None
    return read_status(job_dir).get("best_metric")


def _check_same_job(cfg: DictConfig, job_dir: Path) -> None:
    """Refuse a directory that contains a job with another config.

    Raises:
        InputError: naming the keys that differ.
    """
    network = cfg.classifier.network or {}
    # The config in the directory may name the code that the command itself names.
    saved = read_config(job_dir, trusted=[network["_target_"]] if "_target_" in network else [])
    if keys := changed_keys(saved, cfg):
        raise InputError(
            f"hydra.sweep.dir: {job_dir} contains another job ({', '.join(keys[:3])} differ); "
            "choose another directory"
        )
