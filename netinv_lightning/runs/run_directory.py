"""The run directory: the files of a run, and how the run ended.

`config.yaml`, `environment.json`, `status.json` and `run.log` are written here, and `summary.json`
when the run is done. Other modules write `metrics.csv`, `checkpoints/`, `figures/` and `samples/`.
If several processes train one run (`trainer=ddp`), only the first writes.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from netinv_lightning.errors import InputError, Preempted, one_line
from netinv_lightning.runs.directory_lock import hold_directory
from netinv_lightning.runs.environment import describe_environment
from netinv_lightning.runs.file_check import check_checkpoint
from netinv_lightning.runs.file_writing import (
    check_writable_content,
    separate_hard_links,
    write_atomically,
    write_json,
)
from netinv_lightning.runs.latest_link import link_latest
from netinv_lightning.runs.outside_files import read_json_object
from netinv_lightning.runs.peers import PEER_GONE, first_process, watch_peers
from netinv_lightning.runs.run_failure import REPORTED, reported_error
from netinv_lightning.runs.signals import run_stopped_by_sigterm

log = logging.getLogger(__name__)

STATUS = "status.json"
INVERTED = Path("samples", "inverted.safetensors")
"""The file of an inversion's images in its run directory."""


def read_status(run_dir: Path) -> dict[str, Any]:
    """Return the content of `status.json`; empty if it is missing or damaged."""
    return read_json_object(run_dir / STATUS, run_dir)


class RunDir:
    """Directory of one run.

    Args:
        path: The directory; `open` creates it.
        resuming: Whether the directory contains an unfinished run that is continued.
    """

    def __init__(self, path: Path, resuming: bool = False) -> None:
        self.path, self.resuming = path, resuming
        self.started = time.time()
        self.status: dict[str, Any] = {}

    @property
    def state(self) -> str | None:
        """`running`, `done` or `failed`; None without a status. A killed run stays `running`."""
        return read_status(self.path).get("state")

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path | None:
        """Checkpoint from which a resumed run continues; None if there is none yet."""
        path = self.checkpoints / "last.ckpt"
        return path if self.resuming and path.is_file() else None

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    def record(self, **facts: Any) -> None:
        """Add facts to `status.json`: state, error, seconds, best metric, W&B run id."""
        self.status.update(facts, seconds=round(time.time() - self.started, 3))
        if first_process():
            write_json(self.path / STATUS, self.status)

    def write_summary(self, metrics: Mapping[str, float]) -> None:
        """Write `summary.json`: a flat mapping from metric name to number."""
        if first_process():
            write_json(self.path / "summary.json", dict(metrics), sort_keys=True)

    @contextmanager
    def open(
        self, cfg: DictConfig, classifier: Mapping[str, Any] | None = None
    ) -> Iterator[RunDir]:
        """Context of the run: write its config and environment, and record how it ended.

        Args:
            cfg: The config of the run.
            classifier: What is assumed about the output and the normalisation of the classifier,
                for `environment.json`.

        Raises:
            InputError: if another process writes to the directory, or `check_usable` refuses it.
            OutputLost: if the disk is full, or the directory was removed during the run.
            PeerLost: if another process of the run died.
            OutOfMemory: if the memory is full.
        """
        if not first_process():
            yield self
            return
        with hold_directory(self.path):
            self.check_usable()  # again: another process may have written to the directory since
            separate_hard_links(self.path)
            with run_stopped_by_sigterm(), watch_peers(self._report_lost_peer):
                self._describe(cfg, classifier)
                with _log_to(self.path / "run.log"):
                    try:
                        yield self
                        self.record(state="done")
                    except BaseException as error:
                        reported = self._record_failure(error, cfg)
                        if isinstance(reported, REPORTED):
                            raise reported from error
                        raise

    def _describe(self, cfg: DictConfig, classifier: Mapping[str, Any] | None) -> None:
        earlier = read_status(self.path) if self.resuming else {}
        if self.resuming:
            for folder in (self.path, self.checkpoints):
                for half_written in folder.glob("*.partial"):
                    half_written.unlink(missing_ok=True)
        write_atomically(self.path / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
        facts = {"precision": cfg.trainer.get("precision")} | (
            {"classifier": dict(classifier)} if classifier else {}
        )
        write_json(self.path / "environment.json", describe_environment() | facts)
        continues = self.resuming and any(self.checkpoints.glob("*.ckpt"))
        self.started = time.time() - (earlier.get("seconds", 0.0) if continues else 0.0)
        inherited = {"wandb_run_id": earlier.get("wandb_run_id")} | (
            {"saves": earlier["saves"]} if "saves" in earlier else {}
        )
        self.record(state="running", error=None, best_metric=None, **inherited)
        link_latest(self.path)

    def _record_failure(self, error: BaseException, cfg: DictConfig) -> BaseException:
        """Log and record the error that ended the run, and return the error to report."""
        reported = reported_error(error, self.path, cfg)
        if isinstance(reported, (KeyboardInterrupt, Preempted)):  # not a defect: no traceback
            log.warning("%s", reported)
        else:
            log.error("the run failed", exc_info=error)
        with suppress(OSError):  # if nothing can be written any more, stderr still has the error
            self.record(state="failed", error=one_line(f"{type(reported).__name__}: {reported}"))
        return reported

    def _report_lost_peer(self) -> None:
        """Report how to continue, from a thread that ends this process next."""
        line = f"{PEER_GONE}; continue with resume={self.path}"
        with suppress(OSError):
            self.record(state="failed", error=f"PeerLost: {line}")
        print(f"failed: PeerLost: {line}", file=sys.stderr, flush=True)

    def check_usable(self) -> None:
        """Refuse a directory that cannot be written, or that contains another run.

        Raises:
            InputError: naming the reason.
        """
        if not first_process():
            return
        if not self.resuming and (self.path / STATUS).exists():
            advice = "" if self.state == "done" else f"continue it with resume={self.path}, or "
            raise InputError(
                f"hydra.run.dir={self.path}: already contains a run; {advice}choose another "
                "directory"
            )
        if self.path.exists() and not os.access(self.path, os.W_OK | os.X_OK):
            raise InputError(f"output: {self.path} cannot be written; set output=WRITABLE_FOLDER")
        if self.path.is_dir():
            check_writable_content(self.path)
        for checkpoint in self.checkpoints.glob("*.ckpt") if self.resuming else ():
            check_checkpoint(checkpoint, f"resume={self.path}", "remove it to train from the start")

    def record_refusal(self, cfg: DictConfig, error: str) -> None:
        """Write the config and the status of a sweep job with wrong input."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / "config.yaml", OmegaConf.to_yaml(cfg))
        self.record(state="failed", error=error, best_metric=None, wandb_run_id=None)

    def discard(self) -> None:
        """Remove the directory and its two parents, if they are empty."""
        if not first_process():
            return
        for folder in (self.path, *self.path.parents[:2]):
            try:
                folder.rmdir()
            except OSError:
                return


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    """Context in which log messages are appended to a file."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        with suppress(OSError):
            handler.close()
