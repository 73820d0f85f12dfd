"""The interface of all inversion methods: fit, draw images for conditions, report the cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.cost import Cost
from netinv_lightning.runs.run_directory import RunDir


class NonFiniteError(RuntimeError):
    """A term of the objective, or a weight of the generator, became NaN or infinite."""


@dataclass(frozen=True)
class FitContext:
    """What a run provides to the method that it fits.

    Attributes:
        run_dir: The run directory. Checkpoints are written there, and a resumed run continues from
            them.
        loggers: Loggers of the training metrics.
        make_trainer: `make_trainer` of `training/trainer.py` with the options of the run.
        callbacks: Lightning callbacks of the run, for methods that train with Lightning.
        checkpoint_every: Steps between two checkpoints.
        channels_last: Store images and weights in the channels-last memory format.
        compile: Compile the networks with `torch.compile`.
    """

    run_dir: RunDir
    loggers: list[Logger]
    make_trainer: Callable[..., L.Trainer]
    callbacks: list[Callback] = field(default_factory=list)
    checkpoint_every: int = 250
    channels_last: bool = True
    compile: bool = False


class Inversion(Protocol):
    """A method that draws images to which a frozen classifier assigns the requested classes.

    Evaluation, grid, samples and verdict use only these members, so that the same code serves every
    method.
    """

    @property
    def classifier(self) -> FrozenClassifier:
        """The classifier that is inverted; it is never changed."""

    @property
    def conditioning(self) -> Conditioning:
        """Draws the conditions."""

    @property
    def device(self) -> torch.device:
        """The device that images are drawn on."""

    @property
    def generators(self) -> nn.ModuleList:
        """The trained generators; empty for a method that has none."""

    @property
    def n_generators(self) -> int:
        """Number of generators that share the images of a set; 1 for a method that has none."""

    @property
    def max_images(self) -> int | None:
        """Number of different images that the method can draw; None if it is unlimited."""

    def fit(self, run: FitContext) -> None:
        """Train, or prepare a method that optimises images when they are drawn."""

    def draw(self, condition: Condition, g: int = 0) -> Tensor:
        """Draw images [B, C, H, W] in [0, 1] for given conditions, by generator `g`.

        The result depends only on the conditions and on torch's global random state.
        """

    def cost(self) -> Cost:
        """Return the cost of all fitting and drawing so far."""

    def metrics(self) -> dict[str, float]:
        """Return metrics of the method's own, by name; most methods have none."""

    def load(self, directory: Path, channels_last: bool) -> None:
        """Restore the checkpoint that `fit` wrote to a run directory.

        Args:
            directory: The run directory.
            channels_last: The memory format of the run, for bit-identical images.

        Raises:
            InputError: if its checkpoint is damaged or belongs to another generator.
        """
