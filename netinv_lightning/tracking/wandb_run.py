"""One W&B run per job. Failures of W&B never stop the training.

The run is opened with an id that a resumed run keeps, and closed with the exit status of the job.
Lightning's WandbLogger reuses an open run and never closes it, so the jobs of a sweep would share
one run.
"""

from __future__ import annotations

import logging
import os
import secrets
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig

from netinv_lightning import metric_names as names
from netinv_lightning.config.plain import plain_dict
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.tracking.wandb_login import check_login

if TYPE_CHECKING:
    import wandb

log = logging.getLogger("netinv_lightning")

VERDICT_TAG = "verdict: "
MODES = ("online", "offline", "disabled")
INIT_SECONDS = 30.0
"""Time limit for opening a run online; after that it is opened offline."""
FINISH_SECONDS = 120.0
"""Time limit for the upload at the end of a run; the rest can be uploaded later."""


class WandbRun(Logger):
    """A W&B run whose failures never stop the training.

    If W&B cannot be reached, the run continues offline. If W&B's service process dies, the run is
    opened again once, offline and with the same id. In both cases, one warning is printed. Items
    that W&B rejects for another reason are skipped.

    Args:
        cfg: The config, which is logged completely.
        run_dir: The run directory. It contains the id, and the files until they are uploaded.

    Raises:
        InputError: if W&B refuses the name of the project or entity.
    """

    def __init__(self, cfg: DictConfig, run_dir: RunDir) -> None:
        import wandb

        super().__init__()
        self._run_dir, self._project = run_dir, cfg.logger.project
        self._id: str = run_dir.status.get("wandb_run_id") or secrets.token_hex(6)
        self._identity: dict[str, Any] = {
            "project": cfg.logger.project,
            "entity": cfg.logger.entity,
            "name": f"{cfg.name}-seed{cfg.seed}",
            "group": group(cfg, run_dir.path),
            "job_type": cfg.application.name,
            "tags": [tag for tag, chosen in cfg.logger.tags.items() if chosen],
            "config": plain_dict(cfg),
        }
        self._run: wandb.Run | None = None
        self._reopened = False
        self._refused: set[str] = set()
        try:
            self._run = (
                self._open_online() if cfg.logger.mode == "online" else self._open(cfg.logger.mode)
            )
        except wandb.errors.UsageError as error:
            raise InputError(
                f"logger=wandb: W&B refuses the run ({one_line(error)}). "
                "Check logger.project and logger.entity"
            ) from error
        run_dir.record(wandb_run_id=self._id)

    @property
    def name(self) -> str:
        return self._project

    @property
    def version(self) -> str:
        return self._id

    @property
    def save_dir(self) -> str:
        return str(self._run_dir.path)

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Do nothing: the run already has the whole config."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Log metrics; the cost of a run is not a series, so it goes to the summary only."""
        costs = {name: value for name, value in metrics.items() if name.startswith(names.COST)}
        series = {name: value for name, value in metrics.items() if name not in costs}
        if series:
            self._send("metrics", lambda run: run.log({**series, names.STEP: step}))
        if costs:
            self._send("costs", lambda run: run.summary.update(costs))

    @rank_zero_only
    def describe(self, facts: Mapping[str, Any], verdict: str) -> None:
        """Add facts about the run to its config, and its verdict to its summary and its tags.

        Args:
            facts: What the run found out about its classifier, by config key.
            verdict: Name of the verdict; empty if there is none.
        """
        if facts:
            known = {"derived": dict(facts)}
            self._send("facts", lambda run: run.config.update(known, allow_val_change=True))
        if verdict:
            self._send("verdict", lambda run: _add_verdict(run, verdict))

    @rank_zero_only
    def log(self, name: str, make: Callable[[], object], step: int) -> None:
        """Log one of W&B's data types, such as an image or a table.

        Args:
            name: Name of the item.
            make: Function that creates it; called again if the run is opened again.
            step: Training step.
        """
        self._send(name, lambda run: run.log({name: make(), names.STEP: step}))

    @rank_zero_only
    def log_artifact(self, kind: str, name: str, *paths: Path) -> None:
        """Log files as one artifact, without copying them."""
        import wandb

        def send(run: wandb.Run) -> None:
            artifact = wandb.Artifact(name, type=kind)
            for path in paths:
                artifact.add_file(str(path), policy="immutable")
            run.log_artifact(artifact)

        self._send(f"artifact {name}", send)

    def _send(self, what: str, call: Callable[[wandb.Run], object]) -> None:
        """Call the run and catch its errors; the warning names `what`."""
        if self._run is None:
            return
        try:
            with self._staging():
                call(self._run)
        except _service_died():
            self._reopen()
            self._send(what, call)
        except Exception as error:
            if what not in self._refused:
                log.warning(
                    "W&B: %s is not logged (%s)", what, one_line(f"{type(error).__name__}: {error}")
                )
            self._refused.add(what)

    def finish(self, exit_code: int) -> None:
        """Close the run; the upload has a time limit."""
        if self._run is None:
            return
        try:
            self._run.finish(exit_code=exit_code)
        except Exception as error:  # also the TimeoutError of a slow upload
            self._warn(
                f"W&B could not finish the run ({one_line(f'{type(error).__name__}: {error}')})"
            )
            if isinstance(error, _service_died()):
                _stop_service()

    @contextmanager
    def _staging(self) -> Iterator[None]:
        """Context in which W&B stages files in the run directory, not in the home directory."""
        given = os.environ.get("WANDB_DATA_DIR")
        os.environ["WANDB_DATA_DIR"] = str(self._run_dir.path / "wandb")
        try:
            yield
        finally:
            os.environ.pop("WANDB_DATA_DIR")
            if given is not None:
                os.environ["WANDB_DATA_DIR"] = given

    def _open_online(self) -> wandb.Run:
        """Open the run online or, if that fails, offline without losing data."""
        import wandb

        reason = "no answer"
        if check_login("logger.mode=online", "or set logger.mode=offline"):
            try:
                return self._open("online")
            except wandb.errors.CommError as error:
                reason = one_line(error)
                _stop_service()  # otherwise the id counts as in use
        self._run = self._open("offline")
        self._warn(f"W&B could not open the run online ({reason}); it continues offline")
        return self._run

    def _open(self, mode: str) -> wandb.Run:
        import wandb

        settings = wandb.Settings(
            init_timeout=INIT_SECONDS,
            finish_timeout=FINISH_SECONDS,
            finish_timeout_raises=True,
            x_transaction_log_flush_interval=1.0,  # a kill loses at most one second of history
        )

        def init() -> wandb.Run:
            return wandb.init(
                **self._identity,
                id=self._id,
                dir=self._run_dir.path,
                mode=mode,  # type: ignore[arg-type]
                resume="allow",
                reinit="create_new",
                settings=settings,
            )

        try:
            run = init()
        except _service_died():  # the service died in an earlier job of this process
            _stop_service()
            run = init()
        self._id = run.id  # in a W&B sweep the agent chooses it
        run.define_metric(names.STEP)
        run.define_metric("*", step_metric=names.STEP, step_sync=True)
        return run

    def _reopen(self) -> None:
        _stop_service()
        self._run, again = None, not self._reopened
        self._reopened = True
        if again:
            with suppress(Exception):
                self._run = self._open("offline")
        if self._run is None:
            log.warning(
                "W&B's service process ended; the run continues without W&B. "
                "metrics.csv contains all metrics"
            )
        else:
            self._warn(
                "W&B's service process ended; the run continues offline in a second part "
                "(metrics.csv contains all metrics)"
            )

    def _warn(self, message: str) -> None:
        assert self._run is not None
        folder = Path(self._run.dir).parent
        log.warning("%s; to upload it later: wandb sync %s", message, folder)


def _add_verdict(run: wandb.Run, verdict: str) -> None:
    run.summary["verdict"] = verdict
    kept = [tag for tag in run.tags or () if not tag.startswith(VERDICT_TAG)]
    run.tags = (*kept, f"{VERDICT_TAG}{verdict}")


def _service_died() -> tuple[type[Exception], ...]:
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

    return ConnectionError, MailboxClosedError, HandleAbandonedError


def _stop_service() -> None:
    """Stop W&B's service process and all its runs; the next run starts a new one.

    Otherwise W&B would use a dead process again, or a running process would block the id of a run
    that it failed to open.
    """
    import wandb

    with suppress(Exception):
        wandb.teardown()


def group(cfg: DictConfig, path: Path) -> str:
    """Return W&B's group of a run: `logger.group`, else its sweep, else the experiment."""
    path, sweeps = path.absolute(), Path(cfg.sweep_output).absolute()
    sweep = (
        "/".join(path.parent.relative_to(sweeps).parts)
        if path.is_relative_to(sweeps) and path != sweeps
        else ""
    )
    return cfg.logger.group or sweep or cfg.name
