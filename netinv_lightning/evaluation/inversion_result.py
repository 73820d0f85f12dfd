"""Results of an inversion besides its metrics: samples, grid, confusion matrix and generator.

Shape suffixes: B batch, C channels, H height, W width, N classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.evaluation.grid import draw_grid, grid_of_samples
from netinv_lightning.evaluation.image_sets import Images, write_samples
from netinv_lightning.figures import confusion_matrix
from netinv_lightning.inversion.base import Inversion
from netinv_lightning.inversion.checkpoint import checkpoint_of
from netinv_lightning.inversion.methods.descent import DescentInversion
from netinv_lightning.runs.run_directory import INVERTED
from netinv_lightning.tracking.loggers import TABLE_ROWS, log_samples
from netinv_lightning.tracking.result import Artifact, Figure, Result
from netinv_lightning.tracking.run_context import RunContext


def inversion_result(
    module: Inversion,
    run: RunContext,
    metrics: dict[str, float],
    *,
    samples: Images,
    confusion_NN: Tensor,
    step: int,
) -> Result:
    """Write samples and figures of an inversion; return its result.

    Args:
        module: The inversion.
        run: The run.
        metrics: Metrics of the inversion.
        samples: The images to store.
        confusion_NN: Confusion matrix, with conditioning labels in rows.
        step: Training step at which everything is logged.
    """
    spec, cfg = module.classifier.spec, run.cfg
    write_samples(samples, run.samples / INVERTED.name, spec)
    shown_BCHW = samples.images_nCHW[:TABLE_ROWS]
    with torch.no_grad():
        logits_BN = module.classifier.whole(shown_BCHW.to(module.device))
    log_samples(
        run.loggers,
        x_BCHW=shown_BCHW,
        label_B=samples.labels_n[:TABLE_ROWS],
        logits_BN=logits_BN,
        class_names=spec.class_names,
        step=step,
    )
    columns, path = cfg.application.grid_columns, run.figures / "grid.png"
    grid = None
    if isinstance(module, DescentInversion):  # drawing more images would optimise them, too
        grid = grid_of_samples(module, samples, columns, path, cfg.name)
    grid = grid or draw_grid(module, columns, cfg.seed, path, cfg.name)
    confusion = confusion_matrix(
        confusion_NN, spec.class_names, run.figures / "confusion.png", module.conditioning.chosen
    )
    caption = "rows: conditioning label; columns: predicted class"
    checkpoint, config = checkpoint_of(run.path), run.path / "config.yaml"
    return Result(
        metrics,
        step=step,
        figures=[
            Figure(grid, cfg.name, names.SAMPLES_GRID),
            Figure(confusion, caption, names.INVERSION_CONFUSION),
        ],
        artifacts=[Artifact("generator", (checkpoint, config))] if checkpoint.is_file() else [],
    )


def accuracy_lines(metrics: Mapping[str, float], generators: int, seed: int) -> list[str]:
    """Return the lines with the inversion accuracy, of all generators together and of each.

    Args:
        metrics: Metrics of the inversion.
        generators: Number of generators.
        seed: Seed of the first generator.
    """
    soft, hot = metrics[names.INVERSION_ACCURACY], metrics[names.INVERSION_ACCURACY_HOT]
    lines = [f"inversion accuracy: {soft:.4f} (soft), {hot:.4f} (hot)"]
    if (queries := metrics.get(names.QUERIES)) is not None:
        lines.append(f"queries of the black box: {queries:,.0f} images, excluding the evaluation")
    if generators > 1:
        of_each = ", ".join(
            f"{metrics[names.generator(names.INVERSION_ACCURACY, g)]:.4f}"
            for g in range(generators)
        )
        lines.append(f"of each generator (seeds {seed} to {seed + generators - 1}): {of_each}")
    return lines
