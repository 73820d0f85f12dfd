"""Training steps: Lightning or a plain loop, precision, FLOP/s, several generators, and memory."""

from __future__ import annotations

import multiprocessing
import time
import warnings
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode

import netinv_lightning
from experiments.bench.timing import ROUNDS, Clock, ratio, report, seconds, spread
from netinv_lightning.inversion.build import make_module
from netinv_lightning.inversion.module import InversionModule
from netinv_lightning.inversion.terms import Step
from netinv_lightning.inversion.training import Steps
from netinv_lightning.training.gradient_steps import descend
from netinv_lightning.training.trainer import best_precision, keep_freed_memory, make_trainer

EXPERIMENTS = ("mnist_invert", "cifar_invert")
STEPS, K = 40, 8


def module(experiment: str = "mnist_invert", *overrides: str) -> InversionModule:
    return make_module(netinv_lightning.compose([f"+experiment={experiment}", *overrides])).to(
        memory_format=torch.channels_last
    )


def training(experiment: str, steps: int, *overrides: str) -> float:
    """Return the seconds of a training with Lightning."""
    clock = Clock()
    trainer = make_trainer(
        netinv_lightning.compose([f"+experiment={experiment}", *overrides]),
        callbacks=[clock],
        loggers=[],
        max_steps=steps,
        enable_checkpointing=False,
    )
    inversion = module(experiment, *overrides)
    with inversion.folded():
        trainer.fit(inversion, train_dataloaders=Steps(steps))
    return clock.seconds


def step(
    inversion: InversionModule, optimizer: Optimizer, precision: torch.dtype | None = None
) -> None:
    """Train for one step without Lightning, metrics and logging; `precision=None` is float32."""
    condition = inversion.conditioning.sample(inversion.batch_size)
    with torch.autocast("cpu", precision or torch.bfloat16, enabled=precision is not None):
        latent_BZ = inversion.generator.sample_latent(inversion.batch_size)
        x_BCHW = inversion.generator(latent_BZ, condition)
        logits_BN, features = inversion.classifier.logits_and_features(x_BCHW)
        inputs = Step(x_BCHW, condition, logits_BN, features, inversion.classifier)
        total = inversion.objective.total(inversion.objective(inputs))
    descend(total, optimizer)


def steps_in(
    precision: torch.dtype | None, count: int, experiment: str = "mnist_invert"
) -> Callable[[], None]:
    """Return a function that trains for `count` steps in a precision."""
    inversion = module(experiment)
    optimizer = torch.optim.Adam(inversion.generator.parameters(), 1e-3)

    def work() -> None:
        for _ in range(count):
            step(inversion, optimizer, precision)

    return work


def bare_loop(steps: int) -> float:
    """Return the seconds of the same computations without Lightning, metrics and logging."""
    inversion = module()
    inversion.generator.train()
    optimizer = torch.optim.Adam(inversion.generator.parameters(), inversion.lr, inversion.betas)
    start = time.perf_counter()
    for _ in range(steps):
        step(inversion, optimizer)
    return time.perf_counter() - start


def peak_flops() -> float:
    """Return the measured peak of the machine in FLOP/s: the fastest of 8 float32 products."""
    a = torch.randn(2048, 2048)
    return max(2 * 2048**3 / seconds(lambda: a @ a) for _ in range(8))


def compare_with_bare_loop() -> None:
    """Compare the training with Lightning with a plain loop."""
    full = "trainer.precision=32-true"
    training("mnist_invert", 5, full), bare_loop(5)
    pairs = [(training("mnist_invert", STEPS, full), bare_loop(STEPS)) for _ in range(ROUNDS)]
    report(
        "our training step / bare PyTorch loop",
        spread([ours / bare for ours, bare in pairs], digits=3),
        "goal <= 0.80; the bare loop does not fold BatchNorm",
    )


def compare_precisions() -> None:
    """Compare bfloat16 with float32 by training steps, or by a product if bfloat16 is emulated."""
    if torch.cpu._is_avx512_bf16_supported():
        ratios = ratio(steps_in(torch.bfloat16, 5), steps_in(None, 5), rounds=3)
        chosen = best_precision("cpu")
        report("float32 step / bfloat16 step", spread(ratios), f"precision=auto chooses {chosen}")
        return
    a = torch.randn(512, 512)  # a whole step would take minutes
    b = a.bfloat16()
    report(
        "float32 / bfloat16 matrix product of side 512",
        spread(ratio(lambda: b @ b, lambda: a @ a, rounds=3), digits=3),
        "emulated: the default here is float32",
    )


def measure_throughput() -> None:
    """Measure images per second, and FLOP/s as a share of the peak."""
    for experiment in EXPERIMENTS:
        inversion = module(experiment)
        optimizer = torch.optim.Adam(inversion.generator.parameters(), 1e-3)
        one = partial(step, inversion, optimizer)
        one()
        with FlopCounterMode(display=False) as counter:
            one()
        per_step = median(seconds(one) for _ in range(15))
        share = counter.get_total_flops() / per_step / peak_flops()
        report(
            f"{experiment}: images/s; share of measured peak FLOP/s",
            f"{inversion.batch_size / per_step:.0f}; {share:.2f}",
        )


def several_generators() -> None:
    """Compare training K generators at once with K trainings one after the other."""
    one, several = "n_generators=1", f"n_generators={K}"
    for experiment in EXPERIMENTS:
        training(experiment, 3, one), training(experiment, 3, several)
        ratios = []
        for _ in range(ROUNDS):
            at_once = training(experiment, 15, several)
            ratios.append(at_once / sum(training(experiment, 15, one) for _ in range(K)))
        report(
            f"{experiment}: training {K} generators at once / one by one",
            spread(ratios),
            "goal <= 0.9 on a CPU, 0.35 on a GPU",
        )


def kept_memory() -> None:
    """Compare steps while the C library keeps freed memory with steps while it returns the memory.

    Each measurement runs in a new process.
    """
    context = multiprocessing.get_context("spawn")
    for experiment in EXPERIMENTS:
        ratios = []
        for _ in range(3):
            with context.Pool(1, maxtasksperchild=1) as pool:
                arguments = [(experiment, False), (experiment, True)]
                back, kept = pool.starmap(seconds_in_own_process, arguments, chunksize=1)
                ratios.append(back / kept)
        report(
            f"{experiment}: step, freed memory given back / kept",
            spread(ratios),
            "kept is the default, on glibc",
        )


def seconds_in_own_process(experiment: str, keep: bool) -> float:
    """Return the seconds of 40 steps in a new process."""
    warnings.filterwarnings("ignore")
    if keep:
        keep_freed_memory()
    work = steps_in(None, STEPS, experiment)
    work()
    return seconds(work)
