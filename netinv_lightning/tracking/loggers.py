"""Loggers of a run: always `metrics.csv`, and optionally W&B or TensorBoard."""

from __future__ import annotations

import csv
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from matplotlib.image import imread
from omegaconf import DictConfig
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.data.pixels import to_uint8
from netinv_lightning.data.raster import as_pictures
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError, nearest
from netinv_lightning.runs.file_writing import replacing
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.tracking.wandb_login import check_installed, check_login
from netinv_lightning.tracking.wandb_run import MODES, WandbRun

if TYPE_CHECKING:
    import wandb

LOGGERS = ("csv", "wandb", "tensorboard")
TABLE_ROWS = 50
FACTS = ("num_classes", "channels", "mean", "std")
"""Facts of the classifier's data that W&B shows in the config."""


class MetricsCsv(Logger):
    """Appends one row per call to `metrics.csv`.

    A resumed run leaves the same file as an uninterrupted run. It starts at its last checkpoint, so
    it logs later steps again. When it first logs a metric, the old values of this metric at this
    and later steps are erased, and rows without values are removed. Metrics that are not logged
    again are kept. Existing rows are read one at a time.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._columns: list[str] = []
        if path.is_file():
            with path.open(newline="") as file:
                self._columns = next(_whole_rows(file), [])
        # Columns of the killed run that this run has not logged yet.
        self._earlier = set(self._columns) - {"step"}
        self._cut = bool(self._columns)  # the last row may be incomplete

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Do nothing: the config is in `config.yaml`."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = {"step": step, **metrics}
        new = [name for name in row if name not in self._columns]
        again = self._earlier.intersection(metrics)
        if new or again or self._cut:
            self._rewrite([*self._columns, *new], again, step)
            self._earlier -= again
            self._cut = False
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns, lineterminator="\n").writerow(row)

    def _rewrite(self, columns: list[str], erased: set[str], step: int | None) -> None:
        """Extend the file to `columns`, and erase the columns `erased` from `step` on."""
        indices = [index for index, name in enumerate(self._columns) if name in erased]
        blank = [""] * (len(columns) - len(self._columns))
        with replacing(self.path) as partial, partial.open("w", newline="") as new:
            writer = csv.writer(new, lineterminator="\n")
            writer.writerow(columns)
            if self._columns:
                with self.path.open(newline="") as old:
                    rows = _whole_rows(old)
                    next(rows)  # the header
                    for row in rows:
                        if indices and (
                            row[0] == "" if step is None else row[0] != "" and int(row[0]) >= step
                        ):
                            for index in indices:
                                row[index] = ""
                            if not any(row[1:]):
                                continue
                        writer.writerow(row + blank)
        self._columns = columns


def _whole_rows(file: TextIO) -> Iterator[list[str]]:
    """Yield the rows of a CSV file; skip the last row if it is incomplete."""
    columns = 0
    for row in csv.reader(line for line in file if line.endswith("\n")):
        columns = columns or len(row)
        if len(row) == columns:
            yield row


def check_logger(cfg: DictConfig) -> None:
    """Check the logger before anything is written.

    Raises:
        InputError: if the logger is unknown, or W&B has no valid login in online mode.
    """
    if cfg.logger.name not in LOGGERS:
        raise InputError(f"logger.name={cfg.logger.name}: {nearest(cfg.logger.name, LOGGERS)}")
    check_installed(cfg.logger.name)
    if cfg.logger.name != "wandb":
        return
    if cfg.logger.mode not in MODES:
        raise InputError(f"logger.mode={cfg.logger.mode}: {nearest(cfg.logger.mode, MODES)}")
    if cfg.logger.mode == "online":
        check_login("logger.mode=online", "or set logger.mode=offline")


@contextmanager
def open_loggers(cfg: DictConfig, run_dir: RunDir) -> Iterator[list[Logger]]:
    """Context with the loggers of a run. After an exception, the W&B run ends with status 1."""
    loggers: list[Logger] = [MetricsCsv(run_dir.path / "metrics.csv")]
    if cfg.logger.name == "tensorboard":
        loggers.append(TensorBoardLogger(run_dir.path, name="tensorboard", version=""))
    if cfg.logger.name != "wandb" or getattr(rank_zero_only, "rank", 0):  # the first process logs
        yield loggers
        return
    run = WandbRun(cfg, run_dir)
    exit_code = 1
    try:
        yield [*loggers, run]
        exit_code = 0
    finally:
        run.finish(exit_code)


def log_description(loggers: Sequence[Logger], spec: DataSpec | None, verdict: str) -> None:
    """Log facts that the config does not contain, and the verdict of a run.

    Args:
        loggers: Loggers of the run; those without a config are skipped.
        spec: Facts of the classifier's data; None if the run has no classifier.
        verdict: Name of the verdict; empty if there is none.
    """
    facts = {} if spec is None else {name: _as_list(getattr(spec, name)) for name in FACTS}
    for logger in loggers:
        if isinstance(logger, WandbRun):
            logger.describe(facts, verdict)


def _as_list(value: int | tuple[float, ...]) -> int | list[float]:
    return list(value) if isinstance(value, tuple) else value


def log_image(
    loggers: Sequence[Logger], name: str, path: Path, step: int, caption: str = ""
) -> None:
    """Log a picture.

    Args:
        loggers: Loggers of the run; those without pictures are skipped.
        name: Name of the picture, from `metric_names`.
        path: The PNG.
        step: Training step.
        caption: Caption of the picture.
    """
    for logger in loggers:
        if isinstance(logger, WandbRun):
            import wandb

            logger.log(name, lambda: wandb.Image(str(path), caption=caption or None), step)
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, imread(path)[..., :3], step, dataformats="HWC")


def log_samples(
    loggers: Sequence[Logger],
    x_BCHW: Tensor,
    label_B: Tensor,
    logits_BN: Tensor,
    class_names: Sequence[str],
    step: int,
) -> None:
    """Log the first 50 images as a W&B table with label, prediction and confidence.

    Args:
        loggers: Loggers of the run; those without tables are skipped.
        x_BCHW: Images in [0, 1].
        label_B: Conditioning labels.
        logits_BN: Logits of the classifier.
        class_names: N names.
        step: Training step.
    """
    x_BCHW, label_B, logits_BN = (
        tensor[:TABLE_ROWS].detach().float().cpu() for tensor in (x_BCHW, label_B, logits_BN)
    )
    confidence_B, predicted_B = logits_BN.softmax(dim=1).max(dim=1)
    pixels_BHWC = to_uint8(as_pictures(x_BCHW)).permute(0, 2, 3, 1).expand(-1, -1, -1, 3).numpy()

    def table() -> wandb.Table:
        import wandb

        table = wandb.Table(columns=["image", "conditioned on", "predicted", "confidence"])
        for pixels, label, predicted, confidence in zip(
            pixels_BHWC, label_B, predicted_B, confidence_B, strict=True
        ):
            table.add_data(
                wandb.Image(pixels),
                class_names[int(label)],
                class_names[int(predicted)],
                float(confidence),
            )
        return table

    for logger in loggers:
        if isinstance(logger, WandbRun):
            logger.log(names.SAMPLES_TABLE, table, step)


def log_artifact(loggers: Sequence[Logger], kind: str, name: str, *paths: Path) -> None:
    """Log files as one W&B artifact, without copying them.

    Args:
        loggers: Loggers of the run; those without artifacts are skipped.
        kind: W&B's type of artifact, `generator` or `classifier`.
        name: Name of the artifact; W&B adds a version.
        paths: The files.
    """
    for logger in loggers:
        if isinstance(logger, WandbRun):
            logger.log_artifact(kind, name, *paths)
