"""The training step of the generators: only their weights change.

    z, c ~ conditioning -> generator(z, c) -> images in [0, 1] -> augmentation -> frozen classifier
        -> logits, features -> objective

Nothing leaves the device in a step. The values of the last steps stay in a small buffer there.
Every `log_every` steps the buffer is read once, checked for non-finite values, and its mean is
logged.

Shape suffixes: B batch, N classes, C channels, H height, W width, G generators, K steps, V values
of a step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.folding import folded_batch_norms
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.inversion.base import FitContext, NonFiniteError
from netinv_lightning.inversion.checkpoint import checkpoint_of, load_weights
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.cost import Cost
from netinv_lightning.inversion.ensemble import GeneratorEnsemble, Outputs
from netinv_lightning.inversion.generator import Generator
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.inversion.rounds import Rounds, inherit_second_stage
from netinv_lightning.inversion.sampling import sampling_mode
from netinv_lightning.inversion.terms import Step
from netinv_lightning.inversion.training import train_generators
from netinv_lightning.runs.outside_files import open_file
from netinv_lightning.training.distributed import LocalStream, sum_over_ranks, world_size
from netinv_lightning.training.memory_format import in_channels_last
from netinv_lightning.training.schedules import cosine_share


class InversionModule(L.LightningModule):
    """Trains generators against a frozen classifier.

    Suhail, Tang and Sethi (2024, arXiv 2411.17777, section 3).

    Args:
        generators: The generators; each has its own weights, draws and batch.
        conditioning: Draws the conditions of each batch.
        classifier: The network to invert. It moves to the device with the module; it is never
            changed and never saved.
        objective: The weighted loss terms.
        perturbation: Perturbs the images for the perturbed terms.
        augmentation: Random views of the images, which the classifier sees in training.
        seed: Seed of the first generator's draws; the next one has `seed + 1`, and so on.
        steps: Training steps.
        batch_size: Images per step for each generator, 2 or more, over all processes.
        lr: Learning rate of Adam.
        weight_decay: L2 penalty of Adam.
        betas: Decay rates of Adam.
        warmup: Steps in which the learning rate rises from 0.
        final_lr: Learning rate of the last step as a share of `lr`, reached along a cosine.
        sampling_dropout: Keep dropout on when samples are drawn.
        sampling_batch_norm: Statistics of BatchNorm when samples are drawn: `running` or `batch`.
        sampling_views: Return random views of the samples that are drawn (without noise), to which
            the training makes the classifier's decision invariant.
        round_steps: Train the generators one after the other, each with a new layout, for this
            number of steps (`rounds.py`); None to train all at once.
        log_every: Steps between two rows of metrics.
        micro_batch: Images that the classifier processes at once; None for all. It changes memory
            and time, not the result.

    Raises:
        ValueError: if a value is out of range. The message starts with `<argument>=<value>:`.
    """

    max_images = None

    def __init__(
        self,
        generators: Sequence[Generator],
        conditioning: Conditioning,
        classifier: FrozenClassifier,
        objective: Objective,
        perturbation: Perturbation | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        steps: int = 1000,
        batch_size: int = 48,
        lr: float = 6e-3,
        weight_decay: float = 0.0,
        betas: Sequence[float] = (0.5, 0.99),
        warmup: int = 0,
        final_lr: float = 0.1,
        sampling_dropout: bool = True,
        sampling_batch_norm: str = "running",
        sampling_views: bool = False,
        round_steps: int | None = None,
        log_every: int = 10,
        micro_batch: int | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 2:
            raise ValueError(
                f"batch_size={batch_size}: must be 2 or more, because BatchNorm and the cosine "
                "term compare images"
            )
        if sampling_batch_norm not in ("running", "batch"):
            raise ValueError(f"sampling_batch_norm={sampling_batch_norm}: choose running or batch")
        self.generators = GeneratorEnsemble(generators, seed)
        self.conditioning, self.classifier, self.objective = conditioning, classifier, objective
        self.perturbation = perturbation or Perturbation()
        self.augmentation = augmentation or Augmentation()
        self.rounds = None if round_steps is None else Rounds(len(generators), round_steps, steps)
        self.steps, self.batch_size, self.log_every = steps, batch_size, log_every
        self.micro_batch = micro_batch
        self.lr, self.weight_decay, self.betas = lr, weight_decay, tuple(betas)
        self.warmup, self.final_lr = warmup, final_lr
        self.sampling_dropout, self.sampling_batch_norm = sampling_dropout, sampling_batch_norm
        self.sampling_views = self.augmentation.without_noise() if sampling_views else None
        self.strict_loading = False  # checkpoints hold the generators, not the classifier
        self.columns = objective.columns(names.INVERSION_ACCURACY_TRAIN)
        # Not a buffer, because DistributedDataParallel would overwrite it with that of process 0.
        self.recent_KGV = torch.zeros(log_every, self.trained_at_once, len(self.columns))
        self.accuracies: list[float] = []
        self.step_seconds: list[float] = []
        self.earlier_seconds = 0.0  # of the training before the run was resumed
        self._stream_states: list[Tensor] | None = None
        self._cost = Cost()

    @property
    def n_generators(self) -> int:
        return len(self.generators)

    @property
    def trained_at_once(self) -> int:
        """Number of generators that are trained in a step."""
        return len(self.generators) if self.rounds is None else 1

    @property
    def generator(self) -> Generator:
        """The first generator."""
        return self.generators.generator(0)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        generators = self._trained_now()
        latents, conditions = generators.sample(self.conditioning, self.batch_size, self.device)
        images = generators(latents, conditions)
        views = generators.augment(self.augmentation, images)
        outputs = generators.classify(self.classifier, views, self.micro_batch)
        loss, values_GV = self._score(generators, images, conditions, views, outputs)
        self._record(values_GV)
        return loss

    def _trained_now(self) -> GeneratorEnsemble:
        """Return the generators of this step; the one of a new round starts with the last one's."""
        if self.rounds is None:
            return self.generators
        step = len(self.step_seconds)
        g = self.rounds.generator_at(step)
        if g and step == self.rounds.start(g):
            inherit_second_stage(self.generators.generator(g - 1), self.generators.generator(g))
        return self.generators.only(g)

    def _score(
        self,
        generators: GeneratorEnsemble,
        images: Sequence[Tensor],
        conditions: Sequence[Condition],
        views: Sequence[Tensor],
        outputs: Sequence[Outputs],
    ) -> tuple[Tensor, Tensor]:
        """Return the sum of the generators' losses, and the values to log, [G, V].

        The gradient of the sum with respect to a generator is that of its own loss.
        """
        scores = []
        for g, (x_BCHW, condition, view_BCHW, output) in enumerate(
            zip(images, conditions, views, outputs, strict=True)
        ):
            step = Step(
                x_BCHW=x_BCHW,
                condition=condition,
                logits_BN=output.logits_BN,
                features=output.features,
                classifier=self.classifier,
                generator=generators[g],
                perturbation=self.perturbation,
                stream=generators.streams[g],
                normed=output.normed,
                view_BCHW=view_BCHW,
                micro_batch=self.micro_batch,
            )
            scores.append(self.objective.score(step, step.accuracy()))
        losses, values = zip(*scores, strict=True)
        return torch.stack(losses).sum(), torch.stack(values)

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
            passed = min(step / steps, 1.0) if self.rounds is None else self.rounds.share_at(step)
            return rise * cosine_share(math.pi * passed, self.final_lr)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @torch.no_grad()
    def draw(self, condition: Condition, g: int = 0) -> Tensor:
        generator = self.generators.generator(g)
        with sampling_mode(generator, self.sampling_dropout, self.sampling_batch_norm):
            z_BZ = generator.sample_latent(len(condition.label_B), self.device)
            x_BCHW: Tensor = generator(z_BZ, condition)
        if self.sampling_views is None:
            return x_BCHW
        seed = int(torch.randint(2**31, ()))  # follows the global random state, as the latents do
        return self.sampling_views(x_BCHW, LocalStream(seed, self.device))

    def folded(self) -> AbstractContextManager[object]:
        """Context in which the classifier's BatchNorm is folded, unless a term reads its layers."""
        return nullcontext() if self.objective.reads_layers else folded_batch_norms(self.classifier)

    def fit(self, run: FitContext) -> None:
        self._cost = train_generators(self, run)

    def metrics(self) -> dict[str, float]:
        return {}

    def cost(self) -> Cost:
        return self._cost

    def load(self, directory: Path, channels_last: bool) -> None:
        path = checkpoint_of(directory)
        open_file(path, directory).close()  # raises an error if it is not a file of the run
        load_weights(self, path)
        self.eval()
        if channels_last:
            in_channels_last(self)

    def _record(self, values_GV: Tensor) -> None:
        row = len(self.step_seconds) % self.log_every
        self.recent_KGV[row] = values_GV
        self.step_seconds.append(time.perf_counter() - self._started)
        if row == self.log_every - 1:
            self._log(self._read(self.recent_KGV))

    def _log(self, means_GV: Tensor) -> None:
        """Write a row of means over the recent steps.

        It is passed directly to the loggers, so that it is written before the step's checkpoint.
        """
        values = self.objective.named_values(
            self.columns, means_GV.mean(dim=0), self.batch_size, self.classifier.feature_dims
        )
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
        """Read the recent steps from the device; return their mean over the whole batch, [G, V].

        Raises:
            NonFiniteError: naming the first step with a non-finite value, and the values.
        """
        recent_KGV = (sum_over_ranks(recent_KGV) / world_size()).cpu()
        finite_KGV = recent_KGV.isfinite()
        if not finite_KGV.all():
            row, g, _ = (int(index) for index in (~finite_KGV).nonzero()[0])
            bad = ", ".join(
                name
                for name, finite in zip(self.columns, finite_KGV[row, g], strict=True)
                if not finite
            )
            which = f" of generator {g}" if self.trained_at_once > 1 else ""
            step = self.global_step - len(recent_KGV) + 1 + row
            raise NonFiniteError(f"{bad}{which} is not finite at step {step}; {self._last_good()}")
        self.accuracies += recent_KGV[:, :, -1].mean(dim=1).tolist()
        return recent_KGV.mean(dim=0)

    def on_train_start(self) -> None:
        self.recent_KGV = self.recent_KGV.to(self.device)
        self.generators.start_streams(self.device, self._stream_states)
        self._started = time.perf_counter() - (self.step_seconds[-1] if self.step_seconds else 0.0)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name, weight in self.generators.named_parameters():
            if not weight.isfinite().all():
                raise NonFiniteError(
                    f"the generator's {name} is not finite at step {self.global_step}; "
                    f"{self._last_good()}"
                )
        checkpoint["accuracies"], checkpoint["step_seconds"] = self.accuracies, self.step_seconds
        checkpoint["recent"] = (sum_over_ranks(self.recent_KGV) / world_size()).cpu()
        # A resumed run draws the same numbers as one that was not interrupted.
        checkpoint["streams"] = [stream.state for stream in self.generators.streams]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.accuracies, self.step_seconds = checkpoint["accuracies"], checkpoint["step_seconds"]
        self.earlier_seconds = self.step_seconds[-1] if self.step_seconds else 0.0
        self.recent_KGV, self._stream_states = checkpoint["recent"], checkpoint["streams"]

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the state without the classifier's weights, which the config identifies."""
        return {
            name: value
            for name, value in super().state_dict(*args, **kwargs).items()
            if not name.startswith("classifier.")
        }

    def _last_good(self) -> str:
        path = getattr(self.trainer.checkpoint_callback, "last_model_path", "")
        return f"the last good checkpoint is {path}" if path else "there is no checkpoint yet"
