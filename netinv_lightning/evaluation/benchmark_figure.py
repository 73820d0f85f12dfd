"""The picture of a benchmark: the first image of each class, one row per combination.

Shape suffixes: n images, R rows, K classes, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from netinv_lightning.data.pixels import to_unit_range
from netinv_lightning.data.tensor_files import read_tensors
from netinv_lightning.figures.images import LARGEST_GRID, image_grid
from netinv_lightning.runs.run_directory import INVERTED
from netinv_lightning.tracking.result import Figure

MOST_CLASSES = 20
"""Largest number of columns."""


def benchmark_figures(
    experiment: str, directories: Mapping[str, Path], class_names: Sequence[str], figures: Path
) -> list[Figure]:
    """Draw the images of an experiment; none if its inputs are signals or tables.

    Args:
        experiment: Name of the recipe.
        directories: The run directory whose images a row shows, by the name of the row.
        class_names: One name per label.
        figures: Folder of the figure.
    """
    samples = {
        name: read_tensors(directory / INVERTED, str(directory))
        for name, directory in list(directories.items())[:LARGEST_GRID]
    }
    if not samples or any(of["images"].dim() != 4 for of in samples.values()):
        return []
    labels = torch.cat([of["labels"] for of in samples.values()]).unique()[:MOST_CLASSES]
    rows = [_first_of_each(of["images"], of["labels"], labels) for of in samples.values()]
    path = image_grid(
        torch.stack(rows),
        list(samples),
        figures / f"{experiment.replace('/', '-')}.png",
        f"{experiment}: the first image of each class",
        [class_names[label] for label in labels.tolist()],
    )
    return [Figure(path, "first image of each class, one row per combination")]


def _first_of_each(images_nCHW: Tensor, label_n: Tensor, label_K: Tensor) -> Tensor:
    """Return the first image of each class [K, C, H, W] in [0, 1]; white if there is none."""
    x_KCHW = torch.ones(len(label_K), *images_nCHW.shape[1:])
    for k, label in enumerate(label_K):
        if len(index := (label_n == label).nonzero().flatten()):
            x_KCHW[k] = to_unit_range(images_nCHW[index[0]])
    return x_KCHW
