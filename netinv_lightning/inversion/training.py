"""Training of generators with Lightning: Trainer, checkpoints, progress, and the cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.forward_count import ForwardCount
from netinv_lightning.inversion.base import FitContext
from netinv_lightning.inversion.cost import Cost, first_reached
from netinv_lightning.training.checkpoints import Checkpoints, fit_from
from netinv_lightning.training.distributed import sum_over_ranks
from netinv_lightning.training.memory_format import in_channels_last
from netinv_lightning.training.monitor import load_best
from netinv_lightning.training.progress import progress

if TYPE_CHECKING:
    from netinv_lightning.inversion.module import InversionModule


class Steps:
    """Data loader of an inversion: yields step numbers only, because each step draws its batch."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.count))


def train_generators(module: InversionModule, run: FitContext) -> Cost:
    """Train the generators of a module, from the last checkpoint if the run is resumed.

    The module is on the Trainer's device afterwards.
    """
    if run.channels_last:
        in_channels_last(module)
    if run.compile:
        for generator in module.generators:
            generator.compile()
        module.classifier.network.compile()
    checkpoints = Checkpoints(run.run_dir.checkpoints, run.checkpoint_every)
    counts = PassCounter(module.classifier.forward_count)
    trainer = run.make_trainer(
        callbacks=[
            *run.callbacks,
            *progress((names.INVERSION_ACCURACY_TRAIN, names.LOSS_TOTAL), "training the generator"),
            counts,
            checkpoints,
        ],
        loggers=run.loggers,
        max_steps=module.steps,
        log_every_n_steps=module.log_every,
    )
    with module.folded():
        fit_from(
            run.run_dir.last_checkpoint, trainer, module, train_dataloaders=Steps(module.steps)
        )
    load_best(module, run.run_dir.checkpoints)
    if not module.step_seconds:  # spawned processes return only the weights
        checkpoint = torch.load(checkpoints.last, map_location="cpu", weights_only=True)
        module.on_load_checkpoint(checkpoint)
        counts.load_state_dict(checkpoint["callbacks"][counts.state_key])
    module.to(trainer.strategy.root_device)
    steps, passes = len(module.step_seconds), counts.state_dict()
    return Cost(
        steps=steps,
        seconds=module.step_seconds[-1],
        image_steps=module.batch_size * steps * module.trained_at_once,
        forwards=passes[names.CLASSIFIER_FORWARDS],
        backwards=passes[names.CLASSIFIER_BACKWARDS],
        reached=first_reached(module.accuracies, module.step_seconds),
        generator_parameters=sum(weight.numel() for weight in module.generator.parameters()),
        # In a new run, loading the checkpoint of spawned processes has set it, too.
        earlier_seconds=module.earlier_seconds if run.run_dir.resuming else 0.0,
    )


class PassCounter(Callback):
    """Counts the images that training passes through the classifier.

    The counts are sums over all processes, and over all parts of a resumed run.
    """

    def __init__(self, passes: ForwardCount) -> None:
        self.passes = passes
        self.earlier = {names.CLASSIFIER_FORWARDS: 0, names.CLASSIFIER_BACKWARDS: 0}
        self.start = self._counts()
        self.device = torch.device("cpu")

    @property
    def state_key(self) -> str:
        """The key in checkpoints. It is the earlier name of this class, for old checkpoints."""
        return "TrainingPasses"

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.device = pl_module.device

    def state_dict(self) -> dict[str, int]:
        """Return the counts by metric name; all processes must call it and get the same result."""
        counts = sum_over_ranks((self._counts() - self.start).to(self.device)).tolist()
        return {
            name: earlier + count
            for (name, earlier), count in zip(self.earlier.items(), counts, strict=True)
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.earlier = {name: state_dict[name] for name in self.earlier}

    def _counts(self) -> Tensor:
        return torch.tensor([self.passes.forwards, self.passes.backwards])
