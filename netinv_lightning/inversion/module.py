"""The training step: latents and conditions in, the objective's gradient to the generator out, nothing else moves.

    z, c ~ conditioning -> generator(z, c) -> images in [0, 1] -> frozen classifier -> logits, features -> objective

Nothing leaves the device in a step. The last steps' values stay in a small buffer there; every `log_every` steps it is
read once, checked for non-finite values and logged as its mean.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from netinv_lightning.classifiers.classifier import FrozenClassifier
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.generator import Generator
from netinv_lightning.inversion.objective import Objective, Step
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.metrics import names

REACHED = 0.95  # the papers' bar (A3-2)
WINDOW = 10  # batches over which it must be held


class NonFiniteError(RuntimeError):
    """A term of the objective, or a weight of the generator, became NaN or infinite."""


class InversionModule(L.LightningModule):
    """Trains a generator against a frozen classifier (S2 section 3.3).

    Args:
        generator: What is trained.
        conditioning: Draws what each batch is conditioned on.
        classifier: What is inverted; moved along to the device, never changed, never saved.
        objective: The weighted terms.
        perturbation: For the perturbed terms.
        batch_size: Images a step; 2 or more.
        lr: Learning rate of Adam.
        weight_decay: Its L2 penalty.
        betas: Its decay rates.
        warmup: Steps in which the learning rate rises from 0.
        final_lr: Learning rate at the last step, as a share of `lr`, reached on a cosine.
        sampling_dropout: Keep dropout on when samples are drawn (A1-6).
        sampling_batch_norm: Statistics of BatchNorm when samples are drawn: `running` or `batch`.
        log_every: Steps between two rows of metrics.
    """

    recent_KV: Tensor

    def __init__(
        self,
        generator: Generator,
        conditioning: Conditioning,
        classifier: FrozenClassifier,
        objective: Objective,
        perturbation: Perturbation | None = None,
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
            raise ValueError(f"batch_size={batch_size}: must be 2 or more, BatchNorm and the cosine term compare images")
        if sampling_batch_norm not in ("running", "batch"):
            raise ValueError(f"sampling_batch_norm={sampling_batch_norm}: choose running or batch")
        self.generator, self.classifier = generator, classifier
        self.conditioning, self.objective, self.perturbation = conditioning, objective, perturbation or Perturbation()
        self.batch_size, self.log_every = batch_size, log_every
        self.lr, self.weight_decay, self.betas, self.warmup, self.final_lr = lr, weight_decay, tuple(betas), warmup, final_lr
        self.sampling_dropout, self.sampling_batch_norm = sampling_dropout, sampling_batch_norm
        self.strict_loading = False  # checkpoints hold the generator, not the classifier
        self.columns = [*(names.loss(term) for term in objective.names), names.LOSS_TOTAL, names.INVERSION_ACCURACY_TRAIN]
        self.register_buffer("recent_KV", torch.zeros(log_every, len(self.columns)))
        self.accuracies: list[float] = []
        self.step_seconds: list[float] = []
        self._random_state: Tensor | None = None

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        condition = self.conditioning.sample(self.batch_size, self.device)
        x_BCHW = self.generator(self.generator.sample_latent(self.batch_size, self.device), condition)
        logits_BN, features = self.classifier.logits_and_features(x_BCHW)
        step = Step(x_BCHW, condition, logits_BN, features, self.classifier, self.generator, self.perturbation)
        terms = self.objective(step)
        total = self.objective.total(terms)
        accuracy = (logits_BN.argmax(dim=1) == condition.label_B).float().mean()
        self._record(terms, total, accuracy)
        return total

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.Adam(self.generator.parameters(), self.lr, (self.betas[0], self.betas[1]), weight_decay=self.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)

        def share(step: int) -> float:
            rise = min(1.0, (step + 1) / (self.warmup + 1))
            fall = (1 + math.cos(math.pi * min(step / steps, 1.0))) / 2
            return rise * (self.final_lr + (1 - self.final_lr) * fall)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @torch.no_grad()
    def draw(self, condition: Condition) -> Tensor:
        """Images for given conditions, in the sampling mode of the run; under `own_randomness` always the same."""
        with sampling_mode(self.generator, self.sampling_dropout, self.sampling_batch_norm):
            return self.generator(self.generator.sample_latent(len(condition.label_B), self.device), condition)

    def reached(self) -> tuple[int, float] | None:
        """Step and training seconds at which the accuracy of the last 10 batches first held 0.95; None if never."""
        window = torch.tensor(self.accuracies).unfold(0, WINDOW, 1).mean(dim=1) if len(self.accuracies) >= WINDOW else torch.zeros(0)
        held = (window >= REACHED).nonzero()
        if not len(held):
            return None
        step = int(held[0]) + WINDOW
        return step, self.step_seconds[step - 1]

    def _record(self, terms: Mapping[str, Tensor], total: Tensor, accuracy: Tensor) -> None:
        row = len(self.step_seconds) % self.log_every
        self.recent_KV[row] = torch.stack([*terms.values(), total, accuracy]).detach()
        self.step_seconds.append(time.perf_counter() - self._started)
        if row == self.log_every - 1:
            means = self._read(self.recent_KV.cpu())
            for name, mean in zip(self.columns, means.tolist(), strict=True):
                self.log(name, mean, prog_bar=name == names.INVERSION_ACCURACY_TRAIN)

    def on_train_end(self) -> None:
        if rows := len(self.step_seconds) % self.log_every:
            self._read(self.recent_KV[:rows].cpu())

    def _read(self, recent_KV: Tensor) -> Tensor:
        """Takes the recent steps from the device; gives the mean of each column."""
        finite_KV = recent_KV.isfinite()
        if not finite_KV.all():
            row = int((~finite_KV).any(dim=1).nonzero()[0])
            bad = ", ".join(name for name, finite in zip(self.columns, finite_KV[row], strict=True) if not finite)
            raise NonFiniteError(f"{bad} is not finite at step {self.global_step - len(recent_KV) + 1 + row}; {self._last_good()}")
        self.accuracies += recent_KV[:, -1].tolist()
        return recent_KV.mean(dim=0)

    def on_train_start(self) -> None:
        if self._random_state is not None:
            _set_random_state(self._random_state, self.device)
        self._started = time.perf_counter() - (self.step_seconds[-1] if self.step_seconds else 0.0)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name, weight in self.generator.named_parameters():
            if not weight.isfinite().all():
                raise NonFiniteError(f"the generator's {name} is not finite at step {self.global_step}; {self._last_good()}")
        checkpoint["accuracies"], checkpoint["step_seconds"] = self.accuracies, self.step_seconds
        checkpoint["random_state"] = _random_state(self.device)  # so that a resumed run draws what it would have drawn

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.accuracies, self.step_seconds = checkpoint["accuracies"], checkpoint["step_seconds"]
        self._random_state = checkpoint["random_state"]

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The generator's alone: the classifier is named in the config, and is not saved again."""
        return {name: value for name, value in super().state_dict(*args, **kwargs).items() if not name.startswith("classifier.")}

    def _last_good(self) -> str:
        callback = self.trainer.checkpoint_callback
        path = getattr(callback, "last_model_path", "") or getattr(callback, "best_model_path", "")
        return f"the last good checkpoint is {path}" if path else "there is no checkpoint yet"


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(state: Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state.cpu(), device)
    else:
        torch.set_rng_state(state.cpu())


@contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds latents, conditions and dropout inside, and leaves the randomness of training as it was."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def sampling_mode(generator: nn.Module, dropout: bool, batch_norm: str) -> Iterator[None]:
    """Evaluation mode, with dropout on or off and BatchNorm on running or batch statistics; changes no buffer."""
    modes = {module: module.training for module in generator.modules()}
    momenta = {module: module.momentum for module in generator.modules() if isinstance(module, _BatchNorm)}
    counts = {module: module.num_batches_tracked.clone() for module in momenta if module.num_batches_tracked is not None}
    generator.eval()
    for module in modes:
        if isinstance(module, _DropoutNd):
            module.train(dropout)
    for module in momenta:
        module.train(batch_norm == "batch")
        module.momentum = 0.0
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        for module, momentum in momenta.items():
            module.momentum = momentum
        for module, count in counts.items():
            module.num_batches_tracked = count
