"""Runs inside a run, such as the jobs of a benchmark or the attacks of an audit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from netinv_lightning.applications.execution import run
from netinv_lightning.config.error_messages import explain
from netinv_lightning.errors import InputError, Preempted, one_line
from netinv_lightning.runs.run_directory import RunDir, read_status
from netinv_lightning.training.progress import stages


def done(directory: Path) -> bool:
    """Whether the run in a directory is done."""
    return read_status(directory).get("state") == "done"


def run_parts(
    kind: str, cfgs: Mapping[str, DictConfig], directories: Mapping[str, Path]
) -> dict[str, str]:
    """Run each part unless it is done; a part that was interrupted is resumed.

    If a part fails, the others still run.

    Args:
        kind: What a part is called in the progress lines.
        cfgs: The config of each part, by its name.
        directories: The run directory of each part.

    Returns:
        The error of each part that failed, in one line.

    Raises:
        Preempted: if the run is stopped.
    """
    errors = {}
    for name in stages(kind, [name for name in cfgs if not done(directories[name])]):
        if error := _run_part(cfgs[name], directories[name]):
            errors[name] = error
    return errors


def _run_part(cfg: DictConfig, directory: Path) -> str | None:
    status = read_status(directory)
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
