"""Methods that train networks of their own before they draw, such as a decoder.

Shape suffixes: B batch, V values of a step, K steps.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

import torch
from torch import Tensor, nn

from netinv_lightning.errors import InputError, one_line
from netinv_lightning.inversion.base import FitContext
from netinv_lightning.inversion.cost import CostMeter
from netinv_lightning.inversion.methods.descent import DescentInversion
from netinv_lightning.training.distributed import Stream
from netinv_lightning.training.memory_format import in_channels_last
from netinv_lightning.training.seeds import stream_seed
from netinv_lightning.training.snapshots import Snapshots, check_shapes

CHECKPOINT = "method.ckpt"
"""The file in `checkpoints` with the networks of a method, and the state of their training."""


class TrainedInversion(DescentInversion):
    """A method that trains networks in `fit`; a resumed run continues bit by bit.

    A method provides `networks` and `score`; its constructor calls `super().__init__` first.

    Attributes:
        networks: What is trained and stored. Drawing uses it in evaluation mode.
        batch_size: Images of a training step, for the cost.
        seed: Seed of the training.
    """

    networks: nn.ModuleDict
    batch_size: int
    seed: int

    @abstractmethod
    def score(self, step: int, stream: Stream) -> tuple[Tensor, Tensor]:
        """Return the loss of a training step, and the values to log, [V].

        Args:
            step: Number of the step, from 1.
            stream: Random numbers on the device of the classifier, which depend on the seed and
                the number of the step alone.
        """

    def prepare(self) -> None:
        """Compute what the training needs, such as scores of auxiliary images; by default nothing.

        A resumed run computes it again.
        """

    def fit(self, run: FitContext) -> None:
        super().fit(run)
        self.networks.to(self.device)
        if run.channels_last:
            in_channels_last(self.networks)
        meter = CostMeter(self.classifier.forward_count)
        self.prepare()
        group = {"params": [*self.networks.parameters()], "lr": self.lr}
        descent = self._start_batch([group], meter)
        snapshots = Snapshots(
            run.run_dir.checkpoints / CHECKPOINT, run.run_dir.resuming, run.checkpoint_every
        )
        self.networks.train()
        with snapshots.kept(
            self.steps, networks=self.networks, optimizer=descent.optimizer, training=descent
        ) as (first, done):
            descent.run(
                lambda step: self.score(step, Stream(stream_seed(self.seed, step), self.device)),
                report=lambda step, recent_KV: self._report(step, recent_KV, self.batch_size),
                first=first,
                done=done,
            )
        self.networks.eval().requires_grad_(False)
        self._add_cost(self.batch_size, meter)

    def load(self, directory: Path, channels_last: bool) -> None:
        path = directory / "checkpoints" / CHECKPOINT
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)["networks"]
            check_shapes("networks", saved, self.networks)
            self.networks.load_state_dict(saved)
        except Exception as error:  # damaged files raise errors of many kinds
            raise InputError(
                f"{path}: does not contain the networks of this method ({one_line(error)}); "
                "run it again"
            ) from error
        self.networks.to(self.device).eval().requires_grad_(False)
        if channels_last:
            in_channels_last(self.networks)
