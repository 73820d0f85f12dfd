"""Runs inside a run, such as the jobs of a benchmark or the attacks of an audit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from netinv_lightning.applications.execution import run
from netinv_lightning.config.error_messages import explain
from netinv_lightning.errors import InputError, Preempted, one_line
from netinv_lightning.runs.run_directory import RunDir, read_status
from netinv_lightning.training.progress import stages


@dataclass(frozen=True)
class NestedRuns:
    """What came of several runs.

    Attributes:
        kind: What one of them is called.
        finished: The run directory of each run that is done, by its name.
        errors: The error of each run that failed, in one line.
        number: Number of all runs.
    """

    kind: str
    finished: dict[str, Path]
    errors: dict[str, str]
    number: int

    def failure(self, consequence: str, resume: Path) -> str:
        """Return the message about the runs that failed; empty if none did.

        Args:
            consequence: What follows from it; continues the sentence.
            resume: The run directory that contains the runs.
        """
        if not self.errors:
            return ""
        failed = f"{len(self.errors)} of {self.number} {self.kind}s failed"
        return f"{failed}{consequence}; resume={resume} runs them again"


def run_nested(
    kind: str, cfgs: Mapping[str, DictConfig], directories: Mapping[str, Path]
) -> NestedRuns:
    """Execute each run unless it is done; a run that was interrupted is resumed.

    If a run fails, the others are still executed.

    Args:
        kind: What a run is called in the progress lines.
        cfgs: The config of each run, by its name.
        directories: The directory of each run.

    Raises:
        Preempted: if the run is stopped.
    """
    errors = {}
    unfinished = [name for name in cfgs if RunDir(directories[name]).state != "done"]
    for name in stages(kind, unfinished):
        if error := _run(cfgs[name], directories[name]):
            errors[name] = error
    finished = {name: path for name, path in directories.items() if RunDir(path).state == "done"}
    return NestedRuns(kind, finished, errors, len(cfgs))


def _run(cfg: DictConfig, directory: Path) -> str | None:
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
