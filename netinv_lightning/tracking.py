"""Where a run's numbers, pictures and files go: always `metrics.csv`, and by choice W&B or TensorBoard."""

from __future__ import annotations

import csv
import io
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from matplotlib.image import imread
from omegaconf import DictConfig
from torch import Tensor

from netinv_lightning.errors import InputError, nearest
from netinv_lightning.metrics import names
from netinv_lightning.run_dir import RunDir, write_atomically
from netinv_lightning.wandb_run import MODES, WandbRun, check_login

if TYPE_CHECKING:
    import wandb

LOGGERS = ("csv", "wandb", "tensorboard")
TABLE_ROWS = 50


class MetricsCsv(Logger):
    """Appends to `metrics.csv`, one row a step, unlike Lightning's CSVLogger also where a resumed run goes on.

    A resumed run starts at its last checkpoint: the rows after it, which the run now makes again, and a row that a kill
    cut short are dropped when it first logs.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._columns: list[str] = []
        self._goes_on = path.is_file()

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
        if self._goes_on:
            self._goes_on = False
            self._rewrite([old for old in self._rows() if not old["step"] or step is None or int(old["step"]) < step])
        new = [name for name in row if name not in self._columns]
        if new:
            rows = self._rows()
            self._columns += new
            self._rewrite(rows)
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def _rows(self) -> list[dict[str, str]]:
        if not self.path.is_file():
            return []
        whole = self.path.read_text().rpartition("\n")[0]
        reader = csv.DictReader(io.StringIO(whole))
        rows = list(reader)
        self._columns = list(reader.fieldnames or [])
        return rows

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, text.getvalue())


def check_logger(cfg: DictConfig) -> None:
    """Refuses an unknown logger, and W&B online without a login or with a wrong one, before anything is written.

    Raises:
        InputError: naming the key.
    """
    if cfg.logger.name not in LOGGERS:
        raise InputError(f"logger.name={cfg.logger.name}: {nearest(cfg.logger.name, LOGGERS)}")
    if cfg.logger.name != "wandb":
        return
    if cfg.logger.mode not in MODES:
        raise InputError(f"logger.mode={cfg.logger.mode}: {nearest(cfg.logger.mode, MODES)}")
    if cfg.logger.mode == "online":
        check_login("logger.mode=online", "or set logger.mode=offline")


@contextmanager
def open_loggers(cfg: DictConfig, run_dir: RunDir) -> Iterator[list[Logger]]:
    """The loggers of one job. A W&B run ends with exit status 0 only if the block did not raise."""
    loggers: list[Logger] = [MetricsCsv(run_dir.path / "metrics.csv")]
    if cfg.logger.name == "tensorboard":
        loggers.append(TensorBoardLogger(run_dir.path, name="tensorboard", version=""))
    if cfg.logger.name != "wandb" or getattr(rank_zero_only, "rank", 0):  # of several processes the first has the run
        yield loggers
        return
    run = WandbRun(cfg, run_dir)
    exit_code = 1
    try:
        yield [*loggers, run]
        exit_code = 0
    finally:
        run.finish(exit_code)


def log_image(loggers: Sequence[Logger], name: str, path: Path, step: int, caption: str = "") -> None:
    """Shows a picture.

    Args:
        loggers: Of the run; those that know no pictures are left out.
        name: Under which it appears, from `metrics.names`.
        path: The PNG.
        step: Of the training.
        caption: Below it.
    """
    for logger in loggers:
        if isinstance(logger, WandbRun):
            import wandb

            logger.log(name, lambda: wandb.Image(str(path), caption=caption or None), step)
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, imread(path)[..., :3], step, dataformats="HWC")


def log_samples(
    loggers: Sequence[Logger], x_BCHW: Tensor, label_B: Tensor, logits_BN: Tensor, class_names: Sequence[str], step: int
) -> None:
    """Shows the first 50 images in a W&B table: what each was conditioned on, what it was taken for, how surely.

    Args:
        loggers: Of the run; those that know no tables are left out.
        x_BCHW: Images in [0, 1].
        label_B: Conditioning labels.
        logits_BN: The classifier's logits.
        class_names: N names.
        step: Of the training.
    """
    x_BCHW, label_B, logits_BN = (tensor[:TABLE_ROWS].detach().float().cpu() for tensor in (x_BCHW, label_B, logits_BN))
    confidence_B, predicted_B = logits_BN.softmax(dim=1).max(dim=1)
    pixels_BHWC = (x_BCHW.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).expand(-1, -1, -1, 3).numpy()

    def table() -> wandb.Table:
        import wandb

        table = wandb.Table(columns=["image", "conditioned on", "predicted", "confidence"])
        for pixels, label, predicted, confidence in zip(pixels_BHWC, label_B, predicted_B, confidence_B, strict=True):
            table.add_data(wandb.Image(pixels), class_names[int(label)], class_names[int(predicted)], float(confidence))
        return table

    for logger in loggers:
        if isinstance(logger, WandbRun):
            logger.log(names.SAMPLES_TABLE, table, step)


def log_artifact(loggers: Sequence[Logger], kind: str, name: str, *paths: Path) -> None:
    """Hands files to W&B as one artifact; they stay where they are until it is uploaded.

    Args:
        loggers: Of the run; those that keep no files are left out.
        kind: W&B's type of artifact, `generator` or `classifier`.
        name: Of the artifact; W&B counts its versions.
        paths: The files.
    """
    for logger in loggers:
        if isinstance(logger, WandbRun):
            logger.log_artifact(kind, name, *paths)
