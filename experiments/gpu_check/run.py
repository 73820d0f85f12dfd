"""Run the core on a GPU in every precision, with one line per check: `make gpu-check`.

    python -m experiments.gpu_check.run                 # at most 6 minutes
    python -m experiments.gpu_check.run --device cpu    # the same checks, small, on the CPU

The exit status is 1 if a check failed and 2 without a GPU.

The check needs torch (2.11 or newer), lightning, torchmetrics, hydra-core, omegaconf, safetensors
and numpy. It needs neither data nor network.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from omegaconf import DictConfig

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.checkpoints import broken_weight
from netinv_lightning.classifiers.networks import CNN
from netinv_lightning.config.compose import compose
from netinv_lightning.config.plain import plain_dict
from netinv_lightning.downstream.distillation import distil
from netinv_lightning.downstream.generator_rounds import GeneratorRounds
from netinv_lightning.downstream.replay_buffer import ReplayBuffer
from netinv_lightning.errors import one_line
from netinv_lightning.evaluation.inversion_accuracy import evaluate
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.inversion.base import FitContext
from netinv_lightning.inversion.build import build_inversion, make_module
from netinv_lightning.inversion.module import InversionModule
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.training import Steps
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.training.checkpoints import fit_from
from netinv_lightning.training.trainer import make_trainer

PRECISIONS = {"cuda": ("32-true", "bf16-mixed", "16-mixed"), "cpu": ("32-true", "bf16-mixed")}
SMALL = ["generator=tiny", "application.batch_size=8"]
RECIPE = ["+experiment=mnist_invert"]
ENOUGH = 0.9  # required accuracy or agreement on a GPU


def trained(
    overrides: list[str], precision: str, device: str, steps: int
) -> tuple[InversionModule, DictConfig]:
    """Return the module of trained generators, and its config."""
    cfg = compose(
        [
            *RECIPE,
            *(SMALL if device == "cpu" else []),
            *overrides,
            f"trainer.precision={precision}",
            f"trainer.accelerator={device}",
        ]
    )
    module = make_module(cfg).to(memory_format=torch.channels_last)
    trainer = make_trainer(
        cfg,
        callbacks=[],
        loggers=[],
        max_steps=steps,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    fit_from(None, trainer, module, train_dataloaders=Steps(steps))
    if bad := broken_weight(module.generators):
        raise RuntimeError(f"{bad} is not finite")
    return module.to(trainer.strategy.root_device), cfg


def accuracy(overrides: list[str], steps: int) -> Callable[[str, str], float]:
    """Return a check that trains generators and returns their inversion accuracy."""

    def check(precision: str, device: str) -> float:
        module, cfg = trained(overrides, precision, device, steps if device == "cuda" else 2)
        samples = 2000 if device == "cuda" else 40
        return evaluate(module, samples, min(samples, 500), cfg.seed)[0][
            names.INVERSION_ACCURACY_HOT
        ]

    return check


def of_pixels(method: list[str], small: list[str], samples: int) -> Callable[[str, str], float]:
    """Return a check that optimises images and returns the accuracy of the classifier on them."""

    def check(precision: str, device: str) -> float:
        keys = [
            *RECIPE,
            *method,
            *(small if device == "cpu" else []),
            f"trainer.precision={precision}",
            f"trainer.accelerator={device}",
        ]
        cfg = compose(keys)
        module = build_inversion(cfg)
        count = samples if device == "cuda" else 20
        with TemporaryDirectory() as folder:
            run_dir, trainer = RunDir(Path(folder)), partial(make_trainer, cfg)
            module.fit(FitContext(run_dir, [], trainer, channels_last=False))
            return evaluate(module, count, count, cfg.seed)[0][names.INVERSION_ACCURACY_HOT]

    return check


def distilled(precision: str, device: str) -> float:
    """Return the agreement of a student with its teacher on new generated images."""
    module, _ = trained([], precision, device, 200 if device == "cuda" else 2)
    buffer = ReplayBuffer(64 if device == "cuda" else 8, 0, module.device)
    images = 128 if device == "cuda" else 10
    rounds = GeneratorRounds(
        module,
        Objective(plain_dict(compose(["application=distill"]).loss)),
        buffer,
        Augmentation(shift=1),
        weight=1.0,
        temperature=4.0,
        every=8,
        images=images,
    )
    student = CNN(num_classes=10, channels=1, image_size=28, stages=[[8], [16]], hidden=32)
    steps = 400 if device == "cuda" else 2
    return distil(
        module.classifier,
        buffer.draw,
        student,
        steps=steps,
        before_step=rounds,
        new_images=rounds.new_round,
    ).agreement_fresh


FEW_PIXELS = ["method.steps=2"]
CHECKS: dict[str, tuple[Callable[[str, str], float], float]] = {
    "inversion": (accuracy([], 300), ENOUGH),
    "natural": (accuracy(["loss=natural"], 200), ENOUGH),
    "reconstruction": (accuracy(["loss=reconstruction", "conditioning.vectors=hot"], 200), ENOUGH),
    "two generators": (accuracy(["n_generators=2"], 300), ENOUGH),
    "gradient": (of_pixels(["method=gradient"], FEW_PIXELS, 200), ENOUGH),
    "kkt": (
        of_pixels(
            ["method=kkt", "method.candidates=300", "method.steps=100"],
            ["method.candidates=20", *FEW_PIXELS],
            200,
        ),
        0.0,
    ),
    "distill": (distilled, 0.5),
}
"""Checks by name. Each returns a number in [0, 1], with its required minimum on a GPU."""


def report(name: str, precision: str, device: str) -> bool:
    """Run one check, print its line, and return whether it passed."""
    check, least = CHECKS[name]
    start = time.perf_counter()
    try:
        with redirect_stderr(StringIO()):  # without the progress of the runs
            number = check(precision, device)
        least = least if device == "cuda" else 0.0
        passed = math.isfinite(number) and number >= least
        outcome = f"{'ok' if passed else 'FAILED'}  {number:.3f}" + (
            "" if passed else f", below {least}"
        )
    except Exception as error:
        passed, outcome = False, f"FAILED  {type(error).__name__}: {one_line(error)[:160]}"
    print(f"{name:<16} {precision:<11} {time.perf_counter() - start:6.1f} s  {outcome}", flush=True)
    return passed


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument(
        "--only",
        choices=list(CHECKS),
        nargs="+",
        default=list(CHECKS),
        help="checks to run; all by default",
    )
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print(
            "gpu-check: no CUDA device; --device cpu runs the same checks, small, on the CPU",
            file=sys.stderr,
        )
        return 2
    where = torch.cuda.get_device_name() if arguments.device == "cuda" else "CPU"
    print(f"{where}, torch {torch.__version__}", flush=True)
    passed = [
        report(name, precision, arguments.device)
        for precision in PRECISIONS[arguments.device]
        for name in arguments.only
    ]
    print(f"{sum(passed)} of {len(passed)} checks passed", flush=True)
    return 0 if all(passed) else 1


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # one line per check
    sys.exit(main())
