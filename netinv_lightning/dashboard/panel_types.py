"""Panel types that several sections of the W&B dashboard use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import wandb_workspaces.reports.v2 as wr
from wandb_workspaces.reports.v2.interface import PanelTypes

from netinv_lightning import metric_names as names


def over_steps(
    title: str, metric: str, range_y: tuple[float | None, float | None] = (None, None)
) -> PanelTypes:
    return wr.LinePlot(title=title, x=names.STEP, y=[metric], range_y=range_y)


def bars(title: str, metrics: Sequence[str], **options: Any) -> PanelTypes:
    return wr.BarPlot(title=title, metrics=list(metrics), **options)


def figures(title: str, stems: Sequence[str], columns: int, height: int) -> PanelTypes:
    return wr.MediaBrowser(
        title=title,
        media_keys=[names.figure(stem) for stem in stems],
        num_columns=columns,
        layout=wr.Layout(w=24, h=height),
    )
