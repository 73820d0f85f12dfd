"""The grid of samples: one row per class, drawn during and after the training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from netinv_lightning import metric_names as names
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.figures import image_grid
from netinv_lightning.figures.images import LARGEST_GRID
from netinv_lightning.figures.titles import with_first_of
from netinv_lightning.inversion.base import Inversion
from netinv_lightning.tracking.loggers import log_image
from netinv_lightning.training.seeds import own_randomness


def draw_grid(inversion: Inversion, columns: int, seed: int, path: Path, title: str) -> Path:
    """Draw images of every class, conditioned on hot vectors, with the same latents at every call.

    With one generator, each column shows one sample; with several, each column shows one generator.
    If there are more than 20 classes, the first 20 are drawn, and the title notes it.

    Args:
        inversion: The inversion whose images are drawn.
        columns: Images per class, if there is one generator.
        seed: Seed of the latents.
        path: Path of the picture.
        title: Title of the picture.
    """
    chosen, G = inversion.conditioning.chosen, inversion.n_generators
    shown = chosen[:LARGEST_GRID]
    title = with_first_of(title, len(shown), len(chosen), "classes")
    label_R = torch.tensor(shown, device=inversion.device)
    label_X = label_R.repeat_interleave(columns if G == 1 else 1)
    with own_randomness(seed, inversion.device):
        drawn_G = [
            inversion.draw(inversion.conditioning.of_labels(label_X), g).unflatten(
                0, (len(shown), -1)
            )
            for g in range(G)
        ]
    column_names = [f"generator {g}" for g in range(G)] if G > 1 else ()
    return image_grid(
        torch.cat(drawn_G, dim=1), _names(inversion, shown), path, title, column_names
    )


def grid_of_samples(
    inversion: Inversion, samples: Images, columns: int, path: Path, title: str
) -> Path | None:
    """Draw the grid from images that exist, for methods that optimise every image that is drawn.

    Each class has the same number of images, at most `columns`.

    Args:
        inversion: The inversion whose images they are.
        samples: Its images; the labels are those that they were conditioned on.
        columns: Largest number of images per class.
        path: Path of the picture.
        title: Title of the picture.

    Returns:
        The path, or None if a class has no image.
    """
    chosen = inversion.conditioning.chosen
    shown = chosen[:LARGEST_GRID]
    of_classes = [samples.images_nCHW[samples.labels_n == label] for label in shown]
    if not (fewest := min(columns, *map(len, of_classes))):
        return None
    x_RKCHW = torch.stack([x_nCHW[:fewest] for x_nCHW in of_classes])
    title = with_first_of(title, len(shown), len(chosen), "classes")
    return image_grid(x_RKCHW, _names(inversion, shown), path, title)


def _names(inversion: Inversion, labels: Sequence[int]) -> list[str]:
    return [inversion.classifier.spec.class_names[label] for label in labels]


class GridCallback(Callback):
    """Draw the grid while generators train.

    Args:
        folder: Folder of the pictures.
        loggers: Loggers that record each picture.
        every: Training steps between two grids.
        columns: Images per class.
    """

    def __init__(self, folder: Path, loggers: list[Logger], every: int, columns: int) -> None:
        self.folder, self.loggers, self.every, self.columns = folder, loggers, every, columns

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any
    ) -> None:
        step = trainer.global_step
        if step % self.every or not trainer.is_global_zero:
            return
        path, title = self.folder / f"grid_step{step:06d}.png", f"step {step}"
        draw_grid(cast(Inversion, pl_module), self.columns, 0, path, title)
        log_image(self.loggers, names.SAMPLES_GRID, path, step, title)
