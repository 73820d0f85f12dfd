"""The run directory: what a run leaves behind, and how it ended.

`config.yaml`, `environment.json`, `status.json`, `run.log` are written here; `summary.json` when the run is done;
`metrics.csv`, `checkpoints/`, `figures/`, `samples/` by those who make them. Of several processes that train one run
(`trainer=ddp`) only the first writes.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from netinv_lightning.errors import InputError, Preempted, one_line
from netinv_lightning.runs.checkpoint_file import check_checkpoint
from netinv_lightning.runs.full_disk import full_disk
from netinv_lightning.runs.outside_files import (
    check_writable_content,
    open_file,
    read_json,
    write_fresh,
)
from netinv_lightning.runs.signals import (
    PEER_GONE,
    PeerLost,
    peer_is_gone,
    peers_watched,
    run_stopped_by_sigterm,
)

log = logging.getLogger("netinv_lightning")

_PACKAGES = (
    "netinv_lightning",
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "hydra-core",
    "wandb",
    "numpy",
)


def write_atomically(path: Path, text: str) -> None:
    """Readers see the old file or the new one, never a half."""
    temporary = path.with_name(path.name + ".partial")
    write_fresh(temporary, text.encode())
    os.replace(temporary, path)


def first_process() -> bool:
    """Whether this is the one process that writes; the others were started by Lightning or SLURM and have a rank."""
    ranks = (os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    return next((rank for rank in ranks if rank is not None), "0") == "0"


def written_to(path: Path) -> bool:
    """Whether a process still writes to a run directory: it holds the lock, which the system frees when the process dies."""
    try:
        open_file(
            path / ".lock", path
        ).close()  # a lock is a file of the directory, not a link to somebody's file
        with FileLock(path / ".lock", timeout=0):
            return False
    except (FileNotFoundError, InputError):
        return False
    except (Timeout, OSError):
        return True


class OutputLost(RuntimeError):
    """The disk is full, or somebody removed the run directory; what was written before is whole."""


class RunDir:
    """One run's directory.

    Args:
        path: The directory; made by `open`.
        resuming: It holds an unfinished run, which goes on.
    """

    def __init__(self, path: Path, resuming: bool = False) -> None:
        self.path, self.resuming = path, resuming
        self.started = time.time()
        self.status: dict[str, Any] = {}

    @property
    def state(self) -> str | None:
        """`running`, `done` or `failed`, as `status.json` has it; None where there is none. A killed run stays `running`."""
        return self.stored.get("state")

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path | None:
        """Where a resumed run goes on from; None for a new one, and for one that was killed before its first checkpoint."""
        path = self.checkpoints / "last.ckpt"
        return path if self.resuming and path.is_file() else None

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    def record(self, **facts: Any) -> None:
        """Adds facts to `status.json`: its state, error, seconds, best metric, W&B run id."""
        self.status.update(facts, seconds=round(time.time() - self.started, 3))
        if first_process():
            write_atomically(self.path / "status.json", json.dumps(self.status, indent=2) + "\n")

    def write_summary(self, metrics: Mapping[str, float]) -> None:
        """Writes `summary.json`: metric name to number, flat."""
        if first_process():
            write_atomically(
                self.path / "summary.json",
                json.dumps(dict(metrics), indent=2, sort_keys=True) + "\n",
            )

    @contextmanager
    def open(
        self, cfg: DictConfig, classifier: Mapping[str, Any] | None = None
    ) -> Iterator[RunDir]:
        """Describes the run before it starts and tells how it ended, also when it fails.

        Args:
            cfg: Its config.
            classifier: What is assumed about the classifier's output and normalisation, for `environment.json`.

        Raises:
            InputError: if another process is writing to the directory, or it is one that `check_usable` refuses.
            OutputLost: if the disk is full or the directory was removed while the run was going.
        """
        if not first_process():
            yield self
            return
        what_next = f"continue with resume={self.path}"
        with self._locked(), run_stopped_by_sigterm(), peers_watched(self._peer_is_gone):
            self._describe(cfg, classifier)
            handler = logging.FileHandler(self.path / "run.log")
            handler.setFormatter(
                logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
            )
            root = logging.getLogger()
            root.addHandler(handler)
            try:
                yield self
                self.record(state="done")
            except BaseException as error:
                told = self._lost(error, cfg) or (
                    PeerLost(f"{PEER_GONE}; {what_next}") if peer_is_gone(error) else error
                )
                if isinstance(error, SystemExit) and isinstance(
                    error.__context__, KeyboardInterrupt
                ):  # Lightning's answer to Ctrl-C
                    told = error.__context__
                if isinstance(
                    told, (KeyboardInterrupt, Preempted)
                ):  # the line of code where it was stopped tells nothing
                    told.args = (f"{str(told).partition(';')[0] or 'interrupted'}; {what_next}",)
                    log.warning("%s", told)
                else:
                    log.error("the run failed", exc_info=error)
                with suppress(OSError):  # where nothing can be written any more, stderr still tells
                    self.record(state="failed", error=one_line(f"{type(told).__name__}: {told}"))
                if isinstance(told, (OutputLost, PeerLost)):
                    raise told from error
                raise
            finally:
                root.removeHandler(handler)
                with suppress(OSError):
                    handler.close()

    def _describe(self, cfg: DictConfig, classifier: Mapping[str, Any] | None) -> None:
        earlier = self.stored if self.resuming else {}
        if self.resuming:
            for folder in (self.path, self.checkpoints):  # what a kill left half written
                for half in folder.glob("*.partial"):
                    half.unlink(missing_ok=True)
        write_atomically(self.path / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
        facts = {"precision": cfg.trainer.get("precision")} | (
            {"classifier": dict(classifier)} if classifier else {}
        )
        write_atomically(
            self.path / "environment.json", json.dumps(environment() | facts, indent=2) + "\n"
        )
        continues = self.resuming and any(self.checkpoints.glob("*.ckpt"))
        self.started = time.time() - (earlier.get("seconds", 0.0) if continues else 0.0)
        kept = {"wandb_run_id": earlier.get("wandb_run_id")} | (
            {"saves": earlier["saves"]} if "saves" in earlier else {}
        )
        self.record(state="running", error=None, best_metric=None, **kept)
        self._link_latest()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Holds the directory for this process; the system lets go of it when the process dies, however it dies."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise InputError(
                f"{self.path}: another process is writing its run there; wait for it to end, or choose another directory"
            ) from error
        try:
            self.check_usable()  # again: it may have filled since
            yield
        finally:
            lock.release()
            with suppress(OSError):
                (self.path / ".lock").unlink()

    def _lost(self, error: BaseException, cfg: DictConfig) -> OutputLost | None:
        if isinstance(error, OSError) and not self.path.is_dir():
            return OutputLost(
                f"{self.path} was removed while the run was going; nothing of it is left, start it anew"
            )
        places = {"the run directory": self.path, "TMPDIR": Path(tempfile.gettempdir())}
        if cfg.application.get("save_as"):
            places["application.save_as"] = Path(cfg.application.save_as)
        if cfg.classifier.train:
            places["classifier.kept_in"] = Path(cfg.classifier.kept_in)
        full = full_disk(error, places)
        return (
            OutputLost(f"{full}; make room and continue with resume={self.path}") if full else None
        )

    def _peer_is_gone(self) -> None:
        """Says how to go on, from a thread that ends this process next."""
        line = f"{PEER_GONE}; continue with resume={self.path}"
        with suppress(OSError):
            self.record(state="failed", error=f"PeerLost: {line}")
        print(f"failed: PeerLost: {line}", file=sys.stderr, flush=True)

    @property
    def stored(self) -> dict[str, Any]:
        """What `status.json` holds; empty where there is none, or a damaged one."""
        try:
            stored = read_json(self.path / "status.json", self.path)
        except (OSError, ValueError):
            return {}
        return stored if isinstance(stored, dict) else {}

    def check_usable(self) -> None:
        """Refuses a directory that holds a run already (unless it is resumed), or that cannot be written.

        Raises:
            InputError: saying which.
        """
        if not first_process():
            return
        if not self.resuming and (self.path / "status.json").exists():
            advice = "" if self.state == "done" else f"continue it with resume={self.path}, or "
            raise InputError(
                f"hydra.run.dir={self.path}: holds a run already; {advice}choose another directory"
            )
        if self.path.exists() and not os.access(self.path, os.W_OK | os.X_OK):
            raise InputError(
                f"output: {self.path} cannot be written; set output=FOLDER to one that can"
            )
        if self.path.is_dir():
            check_writable_content(self.path)
        for checkpoint in self.checkpoints.glob("*.ckpt") if self.resuming else ():
            check_checkpoint(checkpoint, f"resume={self.path}", "remove it to train from the start")

    def record_refusal(self, cfg: DictConfig, error: str) -> None:
        """In a sweep a job whose input is wrong leaves its config and status behind."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / "config.yaml", OmegaConf.to_yaml(cfg))
        self.record(state="failed", error=error, best_metric=None, wandb_run_id=None)

    def discard(self) -> None:
        """Removes the directory, and those above that became empty, where nothing was written."""
        if not first_process():
            return
        for folder in (self.path, *self.path.parents[:2]):
            try:
                folder.rmdir()
            except OSError:
                return

    def _link_latest(self) -> None:
        """`runs/latest` points at the newest run: two levels up, beside the experiments."""
        if self.path.parent.parent.name != "runs":
            return
        latest = self.path.parent.parent / "latest"
        if latest.exists() and not latest.is_symlink():
            log.warning(
                "%s is not a link, so it does not lead to this run; rename it to have the link",
                latest,
            )
            return
        temporary = latest.with_name(f"latest.{os.getpid()}")
        try:
            temporary.symlink_to(self.path.relative_to(latest.parent))
            os.replace(temporary, latest)
        except OSError as error:  # a file system without links
            log.warning("no link runs/latest: %s", error)
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def environment() -> dict[str, Any]:
    """What decides a result beside the config: code, versions, machine."""
    import torch

    return {
        "command": sys.argv,
        "git_sha": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain")),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"{platform.processor() or platform.machine()} CPU",
        "threads": torch.get_num_threads(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """Of the checkout that the package runs from; None where it was installed from a wheel."""
    package = Path(__file__).resolve().parent.parent
    if not (package.parent / ".git").exists():
        return None
    try:
        return subprocess.run(
            ["git", "-C", str(package), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
