"""The training step: latents and conditions in, the objective's gradient to the generator out, nothing else moves.

    z, c ~ conditioning -> generator(z, c) -> images in [0, 1] -> augmentation -> frozen classifier -> logits, features -> objective

Several generators train side by side, each on draws of its own, as if it were alone. Nothing leaves the device in a
step. The last steps' values stay in a small buffer there; every `log_every` steps it is read once, checked for
non-finite values and logged as its mean.

Shape suffixes: B batch, N classes, C channels, H height, W width, Z latent, G generators, K steps, V values of a step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.ensemble import generate_together
from netinv_lightning.inversion.generator import BatchNorm, ChannelDropout, Generator
from netinv_lightning.inversion.objective import Objective, Step
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.training.distributed import Stream, sum_over_ranks, world_size
from netinv_lightning.training.seeds import stream_seed

REACHED = 0.95  # the papers' bar (A3-2)
WINDOW = 10  # batches over which it must be held


class NonFiniteError(RuntimeError):
    """A term of the objective, or a weight of the generator, became NaN or infinite."""


class Steps:
    """What the Trainer iterates over: so many steps, and nothing in them, since each step draws its own batch."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.count))


class InversionModule(L.LightningModule):
    """Trains generators against a frozen classifier (S2 section 3.3).

    Args:
        generators: What is trained; each has its own weights, draws and batch (A1-15).
        conditioning: Draws what each batch is conditioned on.
        classifier: What is inverted; moved along to the device, never changed, never saved.
        objective: The weighted terms.
        perturbation: For the perturbed terms.
        augmentation: The views of the images that the classifier sees in training.
        seed: Of the first generator's draws; the next has `seed + 1`, and so on.
        batch_size: Images a step for each generator; 2 or more. Several processes share it out.
        lr: Learning rate of Adam.
        weight_decay: Its L2 penalty.
        betas: Its decay rates.
        warmup: Steps in which the learning rate rises from 0.
        final_lr: Learning rate at the last step, as a share of `lr`, reached on a cosine.
        sampling_dropout: Keep dropout on when samples are drawn (A1-6).
        sampling_batch_norm: Statistics of BatchNorm when samples are drawn: `running` or `batch`.
        log_every: Steps between two rows of metrics.
    """

    def __init__(
        self,
        generators: Sequence[Generator],
        conditioning: Conditioning,
        classifier: FrozenClassifier,
        objective: Objective,
        perturbation: Perturbation | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        batch_size: int = 48,
        lr: float = 6e-3,
        weight_decay: float = 0.0,
        betas: Sequence[float] = (0.5, 0.99),
        warmup: int = 0,
        final_lr: float = 0.1,
        sampling_dropout: bool = True,
        sampling_batch_norm: str = "running",
        log_every: int = 10,
    ) -> None:
        super().__init__()
        if batch_size < 2:
            raise ValueError(
                f"batch_size={batch_size}: must be 2 or more, BatchNorm and the cosine term compare images"
            )
        if sampling_batch_norm not in ("running", "batch"):
            raise ValueError(f"sampling_batch_norm={sampling_batch_norm}: choose running or batch")
        self.generators, self.classifier = nn.ModuleList(generators), classifier
        self.conditioning, self.objective, self.perturbation = (
            conditioning,
            objective,
            perturbation or Perturbation(),
        )
        self.augmentation = augmentation or Augmentation()
        self.batch_size, self.log_every = batch_size, log_every
        self.lr, self.weight_decay, self.betas, self.warmup, self.final_lr = (
            lr,
            weight_decay,
            tuple(betas),
            warmup,
            final_lr,
        )
        self.sampling_dropout, self.sampling_batch_norm = sampling_dropout, sampling_batch_norm
        self.strict_loading = False  # checkpoints hold the generators, not the classifier
        self.columns = [
            *(names.loss(term) for term in objective.names),
            names.LOSS_TOTAL,
            names.INVERSION_ACCURACY_TRAIN,
        ]
        # No buffer: DistributedDataParallel would copy the first process's over the others'.
        self.recent_KGV = torch.zeros(log_every, len(generators), len(self.columns))
        # Not the seed itself: initial weights were drawn from that.
        self.streams = [Stream(stream_seed(0, seed + g)) for g in range(len(generators))]
        self.accuracies: list[float] = []
        self.step_seconds: list[float] = []
        self.earlier_seconds = 0.0  # of training, in the processes before this one
        self._stream_states: list[Tensor] | None = None

    @property
    def generator(self) -> Generator:
        """The first generator."""
        return self._generator(0)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        made = [self._values(step) for step in self._steps()]
        self._record(torch.stack([values_V for _, values_V in made]))
        return torch.stack(
            [total for total, _ in made]
        ).sum()  # each generator's gradient is its own

    def _steps(self) -> list[Step]:
        """A step of each generator, up to logits and features: one pass for all of them."""
        G = len(self.generators)
        generators = [self._generator(g) for g in range(G)]
        draws = [self._draw_batch(g) for g in range(G)]
        conditions = [condition for _, condition in draws]
        images = generate_together(generators, [z_BZ for z_BZ, _ in draws], conditions)
        views = [
            self.augmentation(x_BCHW, stream)
            for x_BCHW, stream in zip(images, self.streams, strict=True)
        ]
        logits_XN, features, normed = self.classifier.trace(torch.cat(views))

        def of_each(values: dict[str, Tensor]) -> list[dict[str, Tensor]]:
            parts = {name: value.chunk(G) for name, value in values.items()}
            return [{name: part[g] for name, part in parts.items()} for g in range(G)]

        seen = zip(logits_XN.chunk(G), of_each(features), of_each(normed), strict=True)
        return [
            Step(
                images[g],
                conditions[g],
                logits_BN,
                f,
                self.classifier,
                generators[g],
                self.perturbation,
                self.streams[g],
                normed_g,
            )
            for g, (logits_BN, f, normed_g) in enumerate(seen)
        ]

    def _draw_batch(self, g: int) -> tuple[Tensor, Condition]:
        share, stream = self.batch_size // world_size(), self.streams[g]
        condition = self.conditioning.sample(share, self.device, stream)
        return self._generator(g).sample_latent(share, self.device, stream), condition

    def _values(self, step: Step) -> tuple[Tensor, Tensor]:
        """The objective's total, and what is logged of the step, [V]."""
        terms = self.objective(step)
        total = self.objective.total(terms)
        accuracy = (step.logits_BN.argmax(dim=1) == step.condition.label_B).float().mean()
        return total, torch.stack([*terms.values(), total, accuracy]).detach()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.Adam(
            self.generators.parameters(),
            self.lr,
            (self.betas[0], self.betas[1]),
            weight_decay=self.weight_decay,
        )
        steps = int(self.trainer.estimated_stepping_batches)

        def share(step: int) -> float:
            rise = min(1.0, (step + 1) / (self.warmup + 1))
            fall = (1 + math.cos(math.pi * min(step / steps, 1.0))) / 2
            return rise * (self.final_lr + (1 - self.final_lr) * fall)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @torch.no_grad()
    def draw(self, condition: Condition, g: int = 0) -> Tensor:
        """Images of generator `g` for given conditions, in the sampling mode of the run; under `own_randomness` always the same."""
        generator = self._generator(g)
        with sampling_mode(generator, self.sampling_dropout, self.sampling_batch_norm):
            return generator(
                generator.sample_latent(len(condition.label_B), self.device), condition
            )

    def _generator(self, g: int) -> Generator:
        generator = self.generators[g]
        assert isinstance(generator, Generator)
        return generator

    def reached(self) -> tuple[int, float] | None:
        return first_reached(self.accuracies, self.step_seconds)

    def _record(self, values_GV: Tensor) -> None:
        row = len(self.step_seconds) % self.log_every
        self.recent_KGV[row] = values_GV
        self.step_seconds.append(time.perf_counter() - self._started)
        if row == self.log_every - 1:
            self._log(self._read(self.recent_KGV))

    def _log(self, means_GV: Tensor) -> None:
        """Writes a row of means over the recent steps, straight to the loggers: before the step's checkpoint, not after it."""
        values = dict(zip(self.columns, means_GV.mean(dim=0).tolist(), strict=True))
        for term, floor in self.objective.floors(
            self.batch_size, self.classifier.feature_dims
        ).items():
            values[names.excess(term)] = values[names.loss(term)] - floor
        if len(means_GV) > 1:
            values |= {
                names.generator(names.INVERSION_ACCURACY_TRAIN, g): float(row_V[-1])
                for g, row_V in enumerate(means_GV)
            }
        for logger in self.loggers:
            logger.log_metrics(values, step=self.global_step)
        for name in (names.INVERSION_ACCURACY_TRAIN, names.LOSS_TOTAL):
            self.log(name, values[name], prog_bar=True, logger=False)

    def on_train_end(self) -> None:
        if rows := len(self.step_seconds) % self.log_every:
            self._read(self.recent_KGV[:rows])

    def _read(self, recent_KGV: Tensor) -> Tensor:
        """Takes the recent steps from the device; gives the mean over them, [G, V], of the whole batch."""
        recent_KGV = (sum_over_ranks(recent_KGV) / world_size()).cpu()
        finite_KGV = recent_KGV.isfinite()
        if not finite_KGV.all():
            row, g, _ = (int(index) for index in (~finite_KGV).nonzero()[0])
            bad = ", ".join(
                name
                for name, finite in zip(self.columns, finite_KGV[row, g], strict=True)
                if not finite
            )
            which = f" of generator {g}" if len(self.generators) > 1 else ""
            step = self.global_step - len(recent_KGV) + 1 + row
            raise NonFiniteError(f"{bad}{which} is not finite at step {step}; {self._last_good()}")
        self.accuracies += recent_KGV[:, :, -1].mean(dim=1).tolist()
        return recent_KGV.mean(dim=0)

    def on_train_start(self) -> None:
        self.recent_KGV = self.recent_KGV.to(self.device)
        for g, stream in enumerate(self.streams):
            stream.to(self.device)
            if self._stream_states is not None:
                stream.state = self._stream_states[g]
            self._generator(g).draw_dropout_from(stream)
        self._started = time.perf_counter() - (self.step_seconds[-1] if self.step_seconds else 0.0)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name, weight in self.generators.named_parameters():
            if not weight.isfinite().all():
                raise NonFiniteError(
                    f"the generator's {name} is not finite at step {self.global_step}; {self._last_good()}"
                )
        checkpoint["accuracies"], checkpoint["step_seconds"] = self.accuracies, self.step_seconds
        checkpoint["recent"] = (sum_over_ranks(self.recent_KGV) / world_size()).cpu()
        checkpoint["streams"] = [
            stream.state for stream in self.streams
        ]  # so that a resumed run draws what it would have drawn

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.accuracies, self.step_seconds = checkpoint["accuracies"], checkpoint["step_seconds"]
        self.earlier_seconds = self.step_seconds[-1] if self.step_seconds else 0.0
        self.recent_KGV, self._stream_states = checkpoint["recent"], checkpoint["streams"]

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The generators' alone: the classifier is named in the config, and is not saved again."""
        return {
            name: value
            for name, value in super().state_dict(*args, **kwargs).items()
            if not name.startswith("classifier.")
        }

    def _last_good(self) -> str:
        path = getattr(self.trainer.checkpoint_callback, "last_model_path", "")
        return f"the last good checkpoint is {path}" if path else "there is no checkpoint yet"


def first_reached(
    accuracies: Sequence[float], step_seconds: Sequence[float]
) -> tuple[int, float] | None:
    """Step and seconds at which the accuracy of the last 10 batches first held 0.95; None if never."""
    if len(accuracies) < WINDOW:
        return None
    held = (torch.tensor(accuracies).unfold(0, WINDOW, 1).mean(dim=1) >= REACHED).nonzero()
    if not len(held):
        return None
    step = int(held[0]) + WINDOW
    return step, step_seconds[step - 1]


@contextmanager
def sampling_mode(generator: Generator, dropout: bool, batch_norm: str) -> Iterator[None]:
    """Evaluation mode, with dropout on or off and BatchNorm on running or batch statistics; changes no buffer or stream."""
    modes = {module: module.training for module in generator.modules()}
    dropouts = [(module, module.stream) for module in modes if isinstance(module, ChannelDropout)]
    norms = [
        (module, module.momentum, module.num_batches_tracked)
        for module in modes
        if isinstance(module, BatchNorm)
    ]
    generator.eval()
    for drop, _ in dropouts:
        drop.train(dropout)
        drop.stream = None
    for norm, _, count in norms:
        norm.train(batch_norm == "batch")
        norm.momentum, norm.over_ranks = 0.0, False
        norm.num_batches_tracked = None if count is None else count.clone()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        for drop, stream in dropouts:
            drop.stream = stream
        for norm, momentum, count in norms:
            norm.momentum, norm.over_ranks, norm.num_batches_tracked = momentum, True, count
