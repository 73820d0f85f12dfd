"""`application=invert`: trains one conditioned generator against a frozen classifier and measures what it makes (S2 section 3).

The training step is in netinv_lightning/inversion/module.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save_file
from torch import Tensor

from netinv_lightning.classifiers.build import load_classifier, load_zoo
from netinv_lightning.classifiers.classifier import FrozenClassifier
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.figures import image_grid
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.evaluation import evaluate
from netinv_lightning.inversion.generator import Generator
from netinv_lightning.inversion.module import InversionModule, own_randomness
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.metrics import names
from netinv_lightning.progress import progress
from netinv_lightning.run_dir import RunDir
from netinv_lightning.tracking import check_logger, open_loggers
from netinv_lightning.trainer import check_trainer, expected_warnings, make_trainer

T = TypeVar("T")

MODULE_KEYS = (
    "batch_size", "lr", "weight_decay", "betas", "warmup", "final_lr", "sampling_dropout", "sampling_batch_norm", "log_every",
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
    L.seed_everything(cfg.seed, verbose=False)
    conditioning = _made("conditioning", Conditioning, num_classes=spec.num_classes, image_size=spec.image_size, **cfg.conditioning)
    generator = _made(
        "generator", Generator, conditioning=conditioning, channels=spec.channels, image_size=spec.image_size, **_plain(cfg.generator)
    )
    return _made(
        "application",
        InversionModule,
        generator=generator,
        conditioning=conditioning,
        classifier=classifier,
        objective=Objective(_plain(cfg.loss), classifier.feature_layers),
        perturbation=_made("perturbation", Perturbation, **cfg.perturbation),
        **{key: cfg.application[key] for key in MODULE_KEYS},
    )


class InvertApplication:
    """Inverts the classifier that `cfg.classifier` names."""

    best_metric = names.INVERSION_ACCURACY

    def __init__(self, cfg: DictConfig, classifier: FrozenClassifier | None = None) -> None:
        self.cfg = cfg
        check_logger(cfg)
        check_trainer(cfg)
        self.module = make_module(cfg, classifier)
        self.verifiers = [load_zoo(name) for name in cfg.application.verifiers]

    def run(self, run_dir: RunDir) -> dict[str, float]:
        start = time.perf_counter()
        app, module = self.cfg.application, self.module
        if app.channels_last:
            module = module.to(memory_format=torch.channels_last)
        if app.compile:
            module.generator.compile()
            module.classifier.network.compile()
        saving = ModelCheckpoint(run_dir.checkpoints, every_n_train_steps=app.checkpoint_every, save_last=True, save_top_k=0)
        with open_loggers(self.cfg, run_dir) as loggers:
            trainer = make_trainer(
                self.cfg,
                callbacks=[
                    saving,
                    GridCallback(run_dir, app.grid_every, app.grid_columns),
                    *progress((names.INVERSION_ACCURACY_TRAIN, names.LOSS_TOTAL)),
                ],
                loggers=loggers,
                max_steps=app.steps,
                log_every_n_steps=app.log_every,
            )
            with expected_warnings():
                trainer.fit(module, train_dataloaders=range(app.steps), ckpt_path=run_dir.last_checkpoint, weights_only=True)
            training_seconds = module.step_seconds[-1]
            module.to(trainer.strategy.root_device)
            metrics = evaluate(module, app.eval_samples, app.eval_batch_size, self.cfg.seed, self.verifiers)
            metrics |= {
                names.TRAINING_SECONDS: training_seconds,
                names.IMAGES_PER_SECOND: app.batch_size * len(module.step_seconds) / training_seconds,
                names.GENERATOR_PARAMETERS: sum(weight.numel() for weight in module.generator.parameters()),
                names.SECONDS: time.perf_counter() - start,
                **_memory(),
            }
            if reached := module.reached():
                metrics |= dict(zip((names.STEPS_TO_95, names.SECONDS_TO_95), reached, strict=True))
            for logger in loggers:
                logger.log_metrics(metrics, step=trainer.global_step)
        self._save_samples(run_dir)
        grid = run_dir.figures / "grid.png"
        image_grid(class_grid(module, app.grid_columns, self.cfg.seed), module.classifier.spec.class_names, grid, self.cfg.name)
        print(f"grid: {grid}")
        print(f"inversion accuracy: {metrics[names.INVERSION_ACCURACY]:.4f} (soft), {metrics[names.INVERSION_ACCURACY_HOT]:.4f} (hot)")
        return metrics

    def _save_samples(self, run_dir: RunDir) -> None:
        with own_randomness(self.cfg.seed, self.module.device):
            condition = self.module.conditioning.sample(self.cfg.application.keep_samples, self.module.device)
            images = self.module.draw(condition)
        content = {"images": images, "labels": condition.label_B, "conditioning": condition.target_BN}
        run_dir.samples.mkdir(exist_ok=True)
        save_file({name: tensor.cpu().contiguous() for name, tensor in content.items()}, run_dir.samples / "inverted.safetensors")


def class_grid(module: InversionModule, columns: int, seed: int) -> Tensor:
    """Images of every class, [N, K, C, H, W], conditioned on hot vectors; the same latents at every call."""
    N = module.conditioning.num_classes
    label_B = torch.arange(N, device=module.device).repeat_interleave(columns)
    with own_randomness(seed, module.device):
        return module.draw(module.conditioning.of_labels(label_B)).unflatten(0, (N, columns))


class GridCallback(Callback):
    """Draws the grid of classes while the generator trains."""

    def __init__(self, run_dir: RunDir, every: int, columns: int) -> None:
        self.run_dir, self.every, self.columns = run_dir, every, columns

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        step = trainer.global_step
        if step % self.every or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, InversionModule)
        path = self.run_dir.figures / f"grid_step{step:06d}.png"
        image_grid(class_grid(pl_module, self.columns, seed=0), pl_module.classifier.spec.class_names, path, f"step {step}")


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
