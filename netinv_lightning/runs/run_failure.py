"""Determine the error that a run reports if it fails."""

from __future__ import annotations

import tempfile
from pathlib import Path

from omegaconf import DictConfig

from netinv_lightning.errors import Preempted
from netinv_lightning.runs.full_disk import full_disk
from netinv_lightning.runs.full_memory import full_memory, remedies
from netinv_lightning.runs.peers import PEER_GONE, PeerLost, peer_is_gone


class OutputLost(RuntimeError):
    """The disk is full, or the run directory was removed; files written before are complete."""


class OutOfMemory(RuntimeError):
    """The memory of the machine or of its GPU is full."""


REPORTED = (OutputLost, PeerLost, OutOfMemory)
"""Errors that are reported instead of the error that ended the run."""


def reported_error(error: BaseException, run_dir: Path, cfg: DictConfig) -> BaseException:
    """Return the error to report instead of the error that ended a run.

    A full disk, a removed directory, a lost process and a full memory become one of `REPORTED`. The
    message of an interrupt contains the command to continue.
    """
    advice = f"continue with resume={run_dir}"
    if lost := _output_lost(error, run_dir, cfg):
        return lost
    if full := full_memory(error):
        return OutOfMemory(f"{full}; {_with_less_memory(cfg, advice)}")
    if peer_is_gone(error):
        return PeerLost(f"{PEER_GONE}; {advice}")
    if isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt):
        error = error.__context__  # Lightning turns Ctrl-C into exit(1)
    if isinstance(error, (KeyboardInterrupt, Preempted)):
        error.args = (f"{str(error).partition(';')[0] or 'interrupted'}; {advice}",)
    return error


def _with_less_memory(cfg: DictConfig, advice: str) -> str:
    """Return how to continue or start again with less memory."""
    resumed, new = remedies(cfg)
    ways = [f"{advice} and {', '.join(resumed)}"] if resumed else []
    ways += [f"start again with {', '.join(new)}"] if new else []
    return "; or ".join(ways) or "free some memory and start again"


def _output_lost(error: BaseException, run_dir: Path, cfg: DictConfig) -> OutputLost | None:
    if isinstance(error, OSError) and not run_dir.is_dir():
        return OutputLost(
            f"{run_dir} was removed during the run, with all its files; start the run again"
        )
    places = {"the run directory": run_dir, "TMPDIR": Path(tempfile.gettempdir())}
    if cfg.application.get("save_as"):
        places["application.save_as"] = Path(cfg.application.save_as)
    if cfg.classifier.train:
        places["classifier.kept_in"] = Path(cfg.classifier.kept_in)
    if full := full_disk(error, places):
        return OutputLost(f"{full}; free some space and continue with resume={run_dir}")
    return None
