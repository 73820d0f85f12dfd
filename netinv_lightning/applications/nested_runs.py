"""Runs that are parts of another run (`application=benchmark`, `application=audit`), each in a directory of its own below it."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from netinv_lightning.applications.execution import run
from netinv_lightning.config.error_messages import explain
from netinv_lightning.errors import InputError, Preempted, one_line
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.runs.sweep_table import read_status
from netinv_lightning.training.progress import tell


def done(directory: Path) -> bool:
    """Whether the part that lies there is done."""
    return read_status(directory).get("state") == "done"


def run_part(cfg: DictConfig, directory: Path, headline: str) -> str | None:
    """Runs a part unless it is done; one that was begun goes on.

    Args:
        cfg: Its config.
        directory: Its run directory.
        headline: Told before it starts.

    Returns:
        Its error in one line, or None. It takes no other part with it; only a run that is asked to stop ends them all.

    Raises:
        Preempted: if the run is asked to stop.
    """
    if done(directory):
        return None
    status = read_status(directory)
    tell(headline)
    try:
        run(cfg, directory, resuming=bool(status))
    except Preempted:
        raise
    except (InputError, OmegaConfBaseException) as error:
        if not status:
            RunDir(directory).record_refusal(cfg, explain(error))
        return explain(error)
    except Exception as error:
        return one_line(f"{type(error).__name__}: {error}")
    return None
