"""Where numbers go while a run trains: always `metrics.csv`, and by choice W&B or TensorBoard.

Our code owns the W&B run: one a job, opened here and closed with the job's exit status, so that the jobs of a sweep
in one process never share one and a failed job is shown as failed.
"""

from __future__ import annotations

import csv
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from netinv_lightning.errors import InputError, nearest, one_line
from netinv_lightning.run_dir import RunDir

LOGGERS = ("csv", "wandb", "tensorboard")
MODES = ("online", "offline", "disabled")


class MetricsCsv(Logger):
    """Appends to `metrics.csv`, one row a step; a resumed run goes on where it ended, unlike Lightning's CSVLogger."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._columns: list[str] = []
        if path.is_file():
            with path.open(newline="") as file:
                self._columns = next(csv.reader(file), [])

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The config is in `config.yaml`."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = {"step": step, **metrics}
        new = [name for name in row if name not in self._columns]
        if new:
            self._widen(new)
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def _widen(self, new: list[str]) -> None:
        rows: list[dict[str, str]] = []
        if self.path.is_file():
            with self.path.open(newline="") as file:
                rows = list(csv.DictReader(file))
        self._columns += new
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)


def check_logger(cfg: DictConfig) -> None:
    """Refuses an unknown logger, and W&B online without a login, before anything is written."""
    if cfg.logger.name not in LOGGERS:
        raise InputError(f"logger.name={cfg.logger.name}: {nearest(cfg.logger.name, LOGGERS)}")
    if cfg.logger.name != "wandb":
        return
    if cfg.logger.mode not in MODES:
        raise InputError(f"logger.mode={cfg.logger.mode}: {nearest(cfg.logger.mode, MODES)}")
    if cfg.logger.mode == "online":
        import wandb

        if not wandb.login(prompt=False):
            raise InputError("logger.mode=online: W&B has no login on this machine; run `wandb login`, or set logger.mode=offline")


@contextmanager
def open_loggers(cfg: DictConfig, run_dir: RunDir) -> Iterator[list[Logger]]:
    """The loggers of one job. A W&B run ends with exit status 0 only if the block did not raise."""
    loggers: list[Logger] = [MetricsCsv(run_dir.path / "metrics.csv")]
    if cfg.logger.name == "tensorboard":
        from lightning.pytorch.loggers import TensorBoardLogger

        loggers.append(TensorBoardLogger(run_dir.path, name="tensorboard", version=""))
    if cfg.logger.name != "wandb":
        yield loggers
        return

    import wandb
    from lightning.pytorch.loggers import WandbLogger

    config = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(config, dict)
    try:
        run = wandb.init(
            project=cfg.logger.project,
            entity=cfg.logger.entity,
            mode=cfg.logger.mode,
            dir=run_dir.path,
            name=f"{cfg.name}-seed{cfg.seed}",
            group=cfg.logger.group or cfg.name,
            tags=[tag for tag, chosen in cfg.logger.tags.items() if chosen],
            id=run_dir.status.get("wandb_run_id"),
            resume="allow",
            config={str(key): value for key, value in config.items()},
            reinit="create_new",
        )
    except (wandb.errors.CommError, wandb.errors.UsageError) as error:
        raise InputError(f"logger=wandb: W&B cannot be reached ({one_line(error)}); set logger.mode=offline") from error
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    run_dir.record(wandb_run_id=run.id)
    exit_code = 1
    try:
        yield [*loggers, WandbLogger(experiment=run, project=cfg.logger.project, save_dir=run_dir.path)]
        exit_code = 0
    finally:
        run.finish(exit_code=exit_code)
