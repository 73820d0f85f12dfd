"""What `application=approach` leaves: metrics, images and their grid.

Shape suffixes: n images, t targets, K images per target, C channels, H height, W width.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.evaluation.given_targets import GivenTargets
from netinv_lightning.evaluation.target_measurement import target_line
from netinv_lightning.figures import image_grid
from netinv_lightning.tracking.result import Figure, Result
from netinv_lightning.tracking.run_context import RunContext


def target_result(
    given: GivenTargets,
    run: RunContext,
    metrics: dict[str, float],
    *,
    x_nCHW: Tensor,
    row_n: Tensor,
    error_n: Tensor,
    step: int,
) -> Result:
    """Write the images and their grid; return the result.

    Args:
        given: The targets.
        run: The run.
        metrics: Metrics of the images.
        x_nCHW: The images.
        row_n: The target of each.
        error_n: The error of each.
        step: Step at which everything is logged.
    """
    app, title = run.cfg.application, run.cfg.name
    tensors = {"images": x_nCHW, "target": row_n, "error": error_n, **given.tensors()}
    save_file(
        {name: x.cpu().contiguous() for name, x in tensors.items()},
        run.samples / "approached.safetensors",
    )
    grid = draw_approached(x_nCHW, given, run.figures / "approached.png", title)
    line = target_line(app.target, app.images, metrics, given.targets)
    return Result(
        metrics,
        step=step,
        figures=[Figure(grid, title, names.SAMPLES_GRID)],
        lines=[line],
    )


def draw_approached(x_nCHW: Tensor, given: GivenTargets, path: Path, title: str) -> Path:
    """Draw one row per target. If the target comes from an image, that image is first."""
    x_tKCHW = x_nCHW.unflatten(0, (len(given.targets), -1))
    column_names: list[str] = []
    if (originals_tCHW := given.originals_tCHW) is not None:
        x_tKCHW = torch.cat([originals_tCHW[:, None], x_tKCHW], dim=1)
        column_names = ["original"]
    return image_grid(x_tKCHW, given.row_names, path, title, column_names)
