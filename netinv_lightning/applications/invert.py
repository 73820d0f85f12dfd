"""`application=invert`: trains conditioned generators against a frozen classifier and measures what it makes (S2 section 3).

The training step is in netinv_lightning/inversion/module.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save_file
from torch import Tensor

from netinv_lightning.checkpointing import Checkpoints
from netinv_lightning.classifiers.build import load_classifier, load_zoo
from netinv_lightning.classifiers.classifier import FrozenClassifier
from netinv_lightning.classifiers.kept import train_once
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.figures import confusion_matrix, image_grid
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.evaluation import evaluate
from netinv_lightning.inversion.generator import Generator
from netinv_lightning.inversion.module import InversionModule, Steps, own_randomness
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.metrics import names
from netinv_lightning.progress import progress
from netinv_lightning.run_dir import RunDir, first_process
from netinv_lightning.tracking import TABLE_ROWS, check_logger, log_artifact, log_image, log_samples, open_loggers
from netinv_lightning.trainer import check_trainer, expected_warnings, make_trainer

T = TypeVar("T")

MODULE_KEYS = (
    "batch_size", "lr", "weight_decay", "betas", "warmup", "final_lr", "sampling_dropout", "sampling_batch_norm", "log_every", "together",
)  # fmt: skip


def make_module(cfg: DictConfig, classifier: FrozenClassifier | None = None) -> InversionModule:
    """Everything that inversion needs, made from the config; no data set is touched (A1-16).

    Args:
        cfg: The config.
        classifier: What to invert; None to load what the config names.

    Raises:
        InputError: naming the key that is wrong.
    """
    classifier = classifier or load_classifier(cfg)
    spec = classifier.spec
    conditioning = _made("conditioning", Conditioning, num_classes=spec.num_classes, image_size=spec.image_size, **cfg.conditioning)
    shape = {"conditioning": conditioning, "channels": spec.channels, "image_size": spec.image_size}
    generators = []
    for g in range(cfg.n_generators):
        L.seed_everything(cfg.seed + g, verbose=False)
        generators.append(_made("generator", Generator, **shape, **_plain(cfg.generator)))
    return _made(
        "application",
        InversionModule,
        generators=generators,
        conditioning=conditioning,
        classifier=classifier,
        objective=Objective(_plain(cfg.loss), classifier.feature_layers),
        perturbation=_made("perturbation", Perturbation, **cfg.perturbation),
        seed=cfg.seed,
        **{key: cfg.application[key] for key in MODULE_KEYS},
    )


class InvertApplication:
    """Inverts the classifier that `cfg.classifier` names."""

    best_metric = names.INVERSION_ACCURACY

    def __init__(self, cfg: DictConfig, classifier: FrozenClassifier | None = None) -> None:
        self.cfg = cfg
        if classifier is not None and cfg.classifier.train:
            raise InputError("classifier.train=true: a network was handed over to be inverted; leave it out")
        check_logger(cfg)
        processes = check_trainer(cfg)
        if (size := cfg.application.batch_size) % processes:
            raise InputError(f"application.batch_size={size}: must be a multiple of the {processes} processes that share it out")
        self.module = make_module(cfg, classifier)
        self.verifiers = [load_zoo(name) for name in cfg.application.verifiers]

    def run(self, run_dir: RunDir) -> dict[str, float]:
        app, module = self.cfg.application, self.module
        with open_loggers(self.cfg, run_dir) as loggers:
            metrics = train_once(self.cfg, module.classifier, run_dir.path)
            start = time.perf_counter()
            trainer = self._fit(run_dir, loggers)
            earlier_seconds = module.earlier_seconds if run_dir.resuming else 0.0  # processes that were spawned load it too
            module.to(trainer.strategy.root_device)
            measured, confusion_NN = evaluate(module, app.eval_samples, app.eval_batch_size, self.cfg.seed, self.verifiers)
            metrics |= measured | self._costs() | {names.SECONDS: time.perf_counter() - start + earlier_seconds}
            if first_process():
                for logger in loggers:
                    logger.log_metrics(metrics, step=trainer.global_step)
                self._show(run_dir, loggers, confusion_NN, trainer.global_step)
                print(
                    f"inversion accuracy: {metrics[names.INVERSION_ACCURACY]:.4f} (soft), {metrics[names.INVERSION_ACCURACY_HOT]:.4f} (hot)"
                )
                if (G := len(module.generators)) > 1:
                    of_each = ", ".join(f"{metrics[names.generator(names.INVERSION_ACCURACY, g)]:.4f}" for g in range(G))
                    print(f"of the generators, seeds {self.cfg.seed} to {self.cfg.seed + G - 1}: {of_each}")
        return metrics

    def _fit(self, run_dir: RunDir, loggers: list[Logger]) -> L.Trainer:
        app, module = self.cfg.application, self.module
        if app.channels_last:
            module = module.to(memory_format=torch.channels_last)
        if app.compile:
            for generator in module.generators:
                generator.compile()
            module.classifier.network.compile()
        checkpoints = Checkpoints(run_dir.checkpoints, app.checkpoint_every)
        trainer = make_trainer(
            self.cfg,
            callbacks=[
                GridCallback(run_dir, loggers, app.grid_every, app.grid_columns),
                *progress((names.INVERSION_ACCURACY_TRAIN, names.LOSS_TOTAL)),
                checkpoints,
            ],
            loggers=loggers,
            max_steps=app.steps,
            log_every_n_steps=app.log_every,
        )
        with expected_warnings():
            trainer.fit(module, train_dataloaders=Steps(app.steps), ckpt_path=run_dir.last_checkpoint, weights_only=True)
        if not module.step_seconds:  # processes that were spawned hand back the weights alone
            module.on_load_checkpoint(torch.load(checkpoints.last, map_location="cpu", weights_only=True))
        return trainer

    def _costs(self) -> dict[str, float]:
        module, seconds = self.module, self.module.step_seconds[-1]
        images = self.cfg.application.batch_size * len(module.step_seconds) * len(module.generators)
        costs = {
            names.TRAINING_SECONDS: seconds,
            names.IMAGES_PER_SECOND: images / seconds,
            names.GENERATOR_PARAMETERS: sum(weight.numel() for weight in module.generator.parameters()),
            **_memory(),
        }
        if reached := module.reached():
            costs |= dict(zip((names.STEPS_TO_95, names.SECONDS_TO_95), reached, strict=True))
        return costs

    def _show(self, run_dir: RunDir, loggers: list[Logger], confusion_NN: Tensor, step: int) -> None:
        """Samples, grid and confusion matrix, as files and in the loggers."""
        module, spec, seed = self.module, self.module.classifier.spec, self.cfg.seed
        samples = class_samples(module, self.cfg.application.keep_samples, seed)
        run_dir.samples.mkdir(exist_ok=True)
        save_file(samples, run_dir.samples / "inverted.safetensors")
        with torch.no_grad():
            logits_BN = module.classifier(samples["images"][:TABLE_ROWS].to(module.device))
        log_samples(loggers, samples["images"], samples["labels"], logits_BN, spec.class_names, step)
        grid = draw_grid(module, self.cfg.application.grid_columns, seed, run_dir.figures / "grid.png", self.cfg.name)
        log_image(loggers, names.SAMPLES_GRID, grid, step, self.cfg.name)
        confusion = confusion_matrix(confusion_NN, spec.class_names, run_dir.figures / "confusion.png")
        log_image(loggers, names.INVERSION_CONFUSION, confusion, step, "rows: conditioned on; columns: predicted")
        log_artifact(loggers, "generator", f"{self.cfg.name}-seed{seed}", run_dir.checkpoints / "last.ckpt", run_dir.path / "config.yaml")
        print(f"grid: {grid}")


def class_samples(module: InversionModule, count: int, seed: int) -> dict[str, Tensor]:
    """Images with labels and conditioning vectors, shared out over the generators; the same at every call."""
    parts: list[tuple[Tensor, ...]] = []
    with own_randomness(seed, module.device):
        for g, numbers in enumerate(torch.arange(count).tensor_split(len(module.generators))):
            if len(numbers):
                condition = module.conditioning.sample(len(numbers), module.device)
                parts.append((module.draw(condition, g), condition.label_B, condition.target_BN, torch.full((len(numbers),), g)))
    joined = (torch.cat(part).cpu().contiguous() for part in zip(*parts, strict=True))
    return dict(zip(("images", "labels", "conditioning", "generator"), joined, strict=True))


def draw_grid(module: InversionModule, columns: int, seed: int, path: Path, title: str) -> Path:
    """Images of every class, conditioned on hot vectors, the same latents at every call: a column a sample, or a column
    for each of several generators (A8-2).
    """
    N, G = module.conditioning.num_classes, len(module.generators)
    label_X = torch.arange(N, device=module.device).repeat_interleave(columns if G == 1 else 1)
    with own_randomness(seed, module.device):
        drawn_G = [module.draw(module.conditioning.of_labels(label_X), g).unflatten(0, (N, -1)) for g in range(G)]
    names_of_columns = [f"generator {g}" for g in range(G)] if G > 1 else ()
    return image_grid(torch.cat(drawn_G, dim=1), module.classifier.spec.class_names, path, title, names_of_columns)


class GridCallback(Callback):
    """Draws the grid of classes while the generators train."""

    def __init__(self, run_dir: RunDir, loggers: list[Logger], every: int, columns: int) -> None:
        self.run_dir, self.loggers, self.every, self.columns = run_dir, loggers, every, columns

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        step = trainer.global_step
        if step % self.every or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, InversionModule)
        path = draw_grid(pl_module, self.columns, 0, self.run_dir.figures / f"grid_step{step:06d}.png", f"step {step}")
        log_image(self.loggers, names.SAMPLES_GRID, path, step, f"step {step}")


def _plain(cfg: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _made(group: str, make: Callable[..., T], **arguments: Any) -> T:
    """Constructors check their own arguments; here their word gets the config's group in front."""
    try:
        return make(**arguments)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{group}.{one_line(error)}") from error


def _memory() -> dict[str, float]:
    if torch.cuda.is_available():
        return {names.PEAK_MEMORY_MB: torch.cuda.max_memory_allocated() / 2**20}
    import resource

    return {names.PEAK_MEMORY_MB: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10}
