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

from netinv_lightning.classifiers.classifier import FrozenClassifier
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.generator import BatchNorm, ChannelDropout, Generator
from netinv_lightning.inversion.objective import Objective, Step
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.inversion.ranks import Stream, sum_over_ranks, world_size
from netinv_lightning.inversion.together import generate_together
from netinv_lightning.inversion.workers import Workers
from netinv_lightning.metrics import names

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
        together: All generators in one vectorised pass; None for what is faster: True on a GPU, threads on a CPU.
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
        together: bool | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 2:
            raise ValueError(f"batch_size={batch_size}: must be 2 or more, BatchNorm and the cosine term compare images")
        if sampling_batch_norm not in ("running", "batch"):
            raise ValueError(f"sampling_batch_norm={sampling_batch_norm}: choose running or batch")
        self.generators, self.classifier = nn.ModuleList(generators), classifier
        self.conditioning, self.objective, self.perturbation = conditioning, objective, perturbation or Perturbation()
        self.augmentation = augmentation or Augmentation()
        self.batch_size, self.log_every, self.together = batch_size, log_every, together
        self.lr, self.weight_decay, self.betas, self.warmup, self.final_lr = lr, weight_decay, tuple(betas), warmup, final_lr
        self.sampling_dropout, self.sampling_batch_norm = sampling_dropout, sampling_batch_norm
        self.strict_loading = False  # checkpoints hold the generators, not the classifier
        self.columns = [*(names.loss(term) for term in objective.names), names.LOSS_TOTAL, names.INVERSION_ACCURACY_TRAIN]
        # No buffer: DistributedDataParallel would copy the first process's over the others'.
        self.recent_KGV = torch.zeros(log_every, len(generators), len(self.columns))
        # Not the seed itself: initial weights were drawn from that.
        self.streams = [Stream(1_000_003 + seed + g) for g in range(len(generators))]
        self.accuracies: list[float] = []
        self.step_seconds: list[float] = []
        self.earlier_seconds = 0.0  # of training, in the processes before this one
        self._stream_states: list[Tensor] | None = None
        self._workers: Workers | None = None
        self._totals: list[tuple[Tensor, Tensor]] = []

    @property
    def generator(self) -> Generator:
        """The first generator."""
        return self._generator(0)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        G = len(self.generators)
        if self.device.type == "cuda" if self.together is None else self.together:
            steps = self._steps_together()
        elif self._workers is not None:
            return self._step_in_threads(self._workers)
        else:
            steps = [self._step(g, self.classifier) for g in range(G)]
        made = [self._values(step) for step in steps]
        self._record(torch.stack([values_V for _, values_V in made]))
        return torch.stack([total for total, _ in made]).sum()  # each generator's gradient is its own

    def _step(self, g: int, classifier: FrozenClassifier) -> Step:
        """One generator's step, up to logits and features."""
        z_BZ, condition = self._draw_batch(g)
        x_BCHW = self._generator(g)(z_BZ, condition)
        logits_BN, features, normed = classifier.trace(self.augmentation(x_BCHW, self.streams[g]))
        return Step(x_BCHW, condition, logits_BN, features, classifier, self._generator(g), self.perturbation, self.streams[g], normed)

    def _steps_together(self) -> list[Step]:
        """The steps of all generators, in one pass through generators and classifier."""
        draws = [self._draw_batch(g) for g in range(len(self.generators))]
        conditions = [condition for _, condition in draws]
        generators = [self._generator(g) for g in range(len(draws))]
        x_GBCHW = generate_together(generators, torch.stack([z_BZ for z_BZ, _ in draws]), conditions)
        views = [self.augmentation(x_GBCHW[g], self.streams[g]) for g in range(len(generators))]
        logits_XN, features, normed = self.classifier.trace(torch.cat(views))
        G = len(generators)

        def of_generator(g: int, values: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: value.chunk(G)[g] for name, value in values.items()}

        return [
            Step(
                x_GBCHW[g], conditions[g], logits_XN.chunk(G)[g], of_generator(g, features),
                self.classifier, generators[g], self.perturbation, self.streams[g], of_generator(g, normed),
            )
            for g in range(G)
        ]  # fmt: skip

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

    def _step_in_threads(self, workers: Workers) -> Tensor:
        """A generator a thread: forward here, backward in `backward`, each graph in the thread that made it."""

        def work(g: int, classifier: FrozenClassifier) -> tuple[Tensor, Tensor]:
            with self.trainer.precision_plugin.forward_context():  # autocast belongs to a thread
                return self._values(self._step(g, classifier))

        made = workers(work)
        self._record(torch.stack([values_V for _, values_V in made]))
        self._totals = [(total, total.detach().requires_grad_()) for total, _ in made]
        return torch.stack([leaf for _, leaf in self._totals]).sum()

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        loss.backward(*args, **kwargs)
        totals, self._totals = self._totals, []
        if totals:
            assert self._workers is not None
            self._workers(lambda g, classifier: totals[g][0].backward(totals[g][1].grad))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.Adam(self.generators.parameters(), self.lr, (self.betas[0], self.betas[1]), weight_decay=self.weight_decay)
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
            return generator(generator.sample_latent(len(condition.label_B), self.device), condition)

    def _generator(self, g: int) -> Generator:
        generator = self.generators[g]
        assert isinstance(generator, Generator)
        return generator

    def reached(self) -> tuple[int, float] | None:
        """Step and training seconds at which the accuracy of the last 10 batches first held 0.95; None if never."""
        window = torch.tensor(self.accuracies).unfold(0, WINDOW, 1).mean(dim=1) if len(self.accuracies) >= WINDOW else torch.zeros(0)
        held = (window >= REACHED).nonzero()
        if not len(held):
            return None
        step = int(held[0]) + WINDOW
        return step, self.step_seconds[step - 1]

    def _record(self, values_GV: Tensor) -> None:
        row = len(self.step_seconds) % self.log_every
        self.recent_KGV[row] = values_GV
        self.step_seconds.append(time.perf_counter() - self._started)
        if row == self.log_every - 1:
            self._log(self._read(self.recent_KGV))

    def _log(self, means_GV: Tensor) -> None:
        """Writes a row of means over the recent steps, straight to the loggers: before the step's checkpoint, not after it."""
        values = dict(zip(self.columns, means_GV.mean(dim=0).tolist(), strict=True))
        for term, floor in self.objective.floors(self.batch_size, self.classifier.feature_dims).items():
            values[names.excess(term)] = values[names.loss(term)] - floor
        if len(means_GV) > 1:
            values |= {names.generator(names.INVERSION_ACCURACY_TRAIN, g): float(row_V[-1]) for g, row_V in enumerate(means_GV)}
        for logger in self.loggers:
            logger.log_metrics(values, step=self.global_step)
        for name in (names.INVERSION_ACCURACY_TRAIN, names.LOSS_TOTAL):
            self.log(name, values[name], prog_bar=True, logger=False)

    def on_train_end(self) -> None:
        if rows := len(self.step_seconds) % self.log_every:
            self._read(self.recent_KGV[:rows])
        if self._workers is not None:
            self._workers.close()
            self._workers = None

    def _read(self, recent_KGV: Tensor) -> Tensor:
        """Takes the recent steps from the device; gives the mean over them, [G, V], of the whole batch."""
        recent_KGV = (sum_over_ranks(recent_KGV) / world_size()).cpu()
        finite_KGV = recent_KGV.isfinite()
        if not finite_KGV.all():
            row, g, _ = (int(index) for index in (~finite_KGV).nonzero()[0])
            bad = ", ".join(name for name, finite in zip(self.columns, finite_KGV[row, g], strict=True) if not finite)
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
        if len(self.generators) > 1 and self.device.type == "cpu" and world_size() == 1 and not self.together:
            self._workers = Workers(len(self.generators), self.classifier)
        self._started = time.perf_counter() - (self.step_seconds[-1] if self.step_seconds else 0.0)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name, weight in self.generators.named_parameters():
            if not weight.isfinite().all():
                raise NonFiniteError(f"the generator's {name} is not finite at step {self.global_step}; {self._last_good()}")
        checkpoint["accuracies"], checkpoint["step_seconds"] = self.accuracies, self.step_seconds
        checkpoint["recent"] = (sum_over_ranks(self.recent_KGV) / world_size()).cpu()
        checkpoint["streams"] = [stream.state for stream in self.streams]  # so that a resumed run draws what it would have drawn

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.accuracies, self.step_seconds = checkpoint["accuracies"], checkpoint["step_seconds"]
        self.earlier_seconds = self.step_seconds[-1] if self.step_seconds else 0.0
        self.recent_KGV, self._stream_states = checkpoint["recent"], checkpoint["streams"]

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The generators' alone: the classifier is named in the config, and is not saved again."""
        return {name: value for name, value in super().state_dict(*args, **kwargs).items() if not name.startswith("classifier.")}

    def _last_good(self) -> str:
        path = getattr(self.trainer.checkpoint_callback, "last_model_path", "")
        return f"the last good checkpoint is {path}" if path else "there is no checkpoint yet"


@contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds latents, conditions and dropout inside, and leaves the randomness of training as it was."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def sampling_mode(generator: Generator, dropout: bool, batch_norm: str) -> Iterator[None]:
    """Evaluation mode, with dropout on or off and BatchNorm on running or batch statistics; changes no buffer or stream."""
    modes = {module: module.training for module in generator.modules()}
    dropouts = [(module, module.stream) for module in modes if isinstance(module, ChannelDropout)]
    norms = [(module, module.momentum, module.num_batches_tracked) for module in modes if isinstance(module, BatchNorm)]
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
