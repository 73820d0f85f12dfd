"""Measure speed as ratios of alternating runs: `make bench`.

Absolute times are noisy on shared machines; ratios of alternating runs are not. The script writes the numbers that it prints to
experiments/bench/bench.csv.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import netinv_lightning
from netinv_lightning.classifiers.build import load_classifier, load_zoo
from netinv_lightning.classifiers.features import extract_features
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.measurement import Measurement
from netinv_lightning.inversion import losses
from netinv_lightning.inversion.build import make_module
from netinv_lightning.inversion.module import InversionModule
from netinv_lightning.inversion.terms import Step
from netinv_lightning.inversion.training import Steps
from netinv_lightning.training.trainer import keep_freed_memory, make_trainer

warnings.filterwarnings("ignore")
HERE = Path(__file__).parent
STEPS, ROUNDS = 40, 5
K, JOBS = 8, 12


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ratio(
    ours: Callable[[], object], other: Callable[[], object], rounds: int = ROUNDS
) -> tuple[float, float, float]:
    """Return median, minimum and maximum of time(other) / time(ours) over alternating runs; above 1 ours is faster."""
    ours(), other()
    pairs = [(seconds(ours), seconds(other)) for _ in range(rounds)]
    ratios = sorted(theirs / mine for mine, theirs in pairs)
    return median(ratios), ratios[0], ratios[-1]


def module(experiment: str = "mnist_invert", *overrides: str) -> InversionModule:
    return make_module(netinv_lightning.compose([f"+experiment={experiment}", *overrides])).to(
        memory_format=torch.channels_last
    )


class Clock(L.Callback):
    """Measure the seconds of the training loop without Lightning's set-up and tear-down."""

    def on_train_start(self, *args: object) -> None:
        self.start = time.perf_counter()

    def on_train_end(self, *args: object) -> None:
        self.seconds = time.perf_counter() - self.start


def lightning_loop(steps: int) -> float:
    clock, cfg = (
        Clock(),
        netinv_lightning.compose(["+experiment=mnist_invert", "trainer.precision=32-true"]),
    )
    trainer = make_trainer(
        cfg, callbacks=[clock], loggers=[], max_steps=steps, enable_checkpointing=False
    )
    trainer.fit(module(), train_dataloaders=Steps(steps))
    return clock.seconds


def bare_loop(steps: int) -> float:
    """Return the seconds of the same computations without Lightning, metrics and logging."""
    inversion = module()
    generator, classifier, conditioning = (
        inversion.generator.train(),
        inversion.classifier,
        inversion.conditioning,
    )
    optimizer = torch.optim.Adam(generator.parameters(), inversion.lr, inversion.betas)
    start = time.perf_counter()
    for _ in range(steps):
        condition = conditioning.sample(inversion.batch_size)
        x_BCHW = generator(generator.sample_latent(inversion.batch_size), condition)
        logits_BN, features = classifier.logits_and_features(x_BCHW)
        step = Step(x_BCHW, condition, logits_BN, features, classifier)
        total = inversion.objective.total(inversion.objective(step))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    return time.perf_counter() - start


def naive_batch_terms(f_BD: Tensor) -> Tensor:
    """Cosine and orthogonality terms as the equations define them: over all pairs of images."""
    B = len(f_BD)
    cosines_BB = F.cosine_similarity(f_BD[:, None], f_BD[None], dim=2)
    cosine = (cosines_BB.sum() - cosines_BB.diagonal().sum()) / (B * (B - 1))
    unit_BD = F.normalize(f_BD, dim=1)
    return cosine + ((unit_BD @ unit_BD.T - torch.eye(B)) ** 2).mean()


def gram_batch_terms(f_BD: Tensor) -> Tensor:
    """The same terms from one B x B Gram matrix, a careful straightforward implementation."""
    B = len(f_BD)
    unit_BD = F.normalize(f_BD, dim=1)
    gram_BB = unit_BD @ unit_BD.T
    return (gram_BB.sum() - gram_BB.diagonal().sum()) / (B * (B - 1)) + (
        (gram_BB - torch.eye(B)) ** 2
    ).mean()


def our_batch_terms(f_BD: Tensor) -> Tensor:
    return losses.cosine_similarity(f_BD) + losses.orthogonality(f_BD)


def backward_of(terms: Callable[[Tensor], Tensor], f_BD: Tensor) -> Callable[[], object]:
    return lambda: torch.autograd.grad(terms(f_BD), f_BD)


def saved_bytes(terms: Callable[[Tensor], Tensor], f_BD: Tensor) -> int:
    """Return the number of bytes stored for the backward pass."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        terms(f_BD)
    return sum(kept.values())


def steps_in(
    precision: torch.dtype | None, count: int, experiment: str = "mnist_invert"
) -> Callable[[], None]:
    inversion = module(experiment)
    optimizer = torch.optim.Adam(inversion.generator.parameters(), 1e-3)

    def work() -> None:
        for _ in range(count):
            condition = inversion.conditioning.sample(inversion.batch_size)
            with torch.autocast("cpu", precision or torch.bfloat16, enabled=precision is not None):
                x_BCHW = inversion.generator(
                    inversion.generator.sample_latent(inversion.batch_size), condition
                )
                logits_BN, features = inversion.classifier.logits_and_features(x_BCHW)
                step = Step(x_BCHW, condition, logits_BN, features, inversion.classifier)
                total = inversion.objective.total(inversion.objective(step))
            optimizer.zero_grad()
            total.backward()
            optimizer.step()

    return work


def peak_flops() -> float:
    """Return the measured peak of the machine in FLOP/s: the fastest of several large float32 matrix products."""
    a = torch.randn(2048, 2048)
    return max(2 * 2048**3 / seconds(lambda: a @ a) for _ in range(8))


def step_and_terms() -> None:
    lightning_loop(5), bare_loop(5)
    pairs = [(lightning_loop(STEPS), bare_loop(STEPS)) for _ in range(ROUNDS)]
    ratios = sorted(ours / bare for ours, bare in pairs)
    report(
        "our training step / bare PyTorch loop",
        f"{median(ratios):.3f} ({ratios[0]:.3f}-{ratios[-1]:.3f})",
        "goal <= 1.05",
    )

    f_BD = torch.randn(2048, 128, requires_grad=True)
    torch.testing.assert_close(our_batch_terms(f_BD), naive_batch_terms(f_BD), rtol=1e-4, atol=1e-6)
    ours = backward_of(our_batch_terms, f_BD)
    for name, other in (("pairwise", naive_batch_terms), ("Gram", gram_batch_terms)):
        middle, low, high = ratio(
            ours, backward_of(other, f_BD), rounds=1 if name == "pairwise" else ROUNDS
        )
        report(
            f"cosine + orthogonality, B=2048 d=128: naive {name} / ours",
            f"{middle:.1f} ({low:.1f}-{high:.1f})",
            "goal >= 8",
        )
        report(
            f"  bytes kept for backward: naive {name} / ours",
            f"{saved_bytes(other, f_BD) / saved_bytes(our_batch_terms, f_BD):.1f}",
        )

    native = torch.cpu._is_avx512_bf16_supported()
    if native:
        middle, low, high = ratio(steps_in(torch.bfloat16, 5), steps_in(None, 5), rounds=3)
        report(
            "float32 step / bfloat16 step",
            f"{middle:.2f} ({low:.2f}-{high:.2f})",
            "the default here: bfloat16",
        )
    else:  # emulated bfloat16 is slow: a whole step would take minutes
        a = torch.randn(512, 512)
        b = a.bfloat16()
        middle, low, high = ratio(lambda: b @ b, lambda: a @ a, rounds=3)
        report(
            "float32 / bfloat16 matrix product of side 512",
            f"{middle:.3f} ({low:.3f}-{high:.3f})",
            "emulated: the default here is float32",
        )

    for experiment in ("mnist_invert", "cifar_invert"):
        inversion = module(experiment)
        optimizer = torch.optim.Adam(inversion.generator.parameters(), 1e-3)

        def one(
            inversion: InversionModule = inversion, optimizer: torch.optim.Optimizer = optimizer
        ) -> None:
            condition = inversion.conditioning.sample(inversion.batch_size)
            x_BCHW = inversion.generator(
                inversion.generator.sample_latent(inversion.batch_size), condition
            )
            logits_BN, features = inversion.classifier.logits_and_features(x_BCHW)
            total = inversion.objective.total(
                inversion.objective(
                    Step(x_BCHW, condition, logits_BN, features, inversion.classifier)
                )
            )
            optimizer.zero_grad()
            total.backward()
            optimizer.step()

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
    for experiment in ("mnist_invert", "cifar_invert"):
        training(experiment, 1, 3), training(experiment, K, 3)
        rounds = []
        for _ in range(5):
            at_once = training(experiment, K, 15)
            apart = sum(training(experiment, 1, 15) for _ in range(K))
            rounds.append(at_once / apart)
        report(
            f"{experiment}: training {K} generators at once / one by one",
            spread(rounds),
            "goal <= 0.9 on a CPU, 0.35 on a GPU",
        )


def whole_command() -> None:
    """Compare one command with K generators with K commands."""
    with TemporaryDirectory() as folder:
        together = seconds(lambda: command(folder, "+experiment=quickstart", f"n_generators={K}"))
        apart = sum(
            seconds(lambda seed=seed: command(folder, "+experiment=quickstart", f"seed={seed}"))
            for seed in range(K)
        )
    report(
        f"the whole command with {K} generators / {K} commands",
        f"{together / apart:.2f}",
        "quickstart, one pair; goal <= 0.6",
    )


def training(experiment: str, generators: int, steps: int, *extra: str) -> float:
    clock = Clock()
    overrides = [f"n_generators={generators}", *extra]
    trainer = make_trainer(
        netinv_lightning.compose([f"+experiment={experiment}", *overrides]),
        callbacks=[clock],
        loggers=[],
        max_steps=steps,
        enable_checkpointing=False,
    )
    trainer.fit(module(experiment, *overrides), train_dataloaders=Steps(steps))
    return clock.seconds


def kept_memory() -> None:
    """Compare training steps for which the C library keeps freed memory with steps for which it returns it to the system.

    Each measurement runs in a new process.
    """
    context = multiprocessing.get_context("spawn")
    for experiment in ("mnist_invert", "cifar_invert"):
        pairs = []
        for _ in range(3):
            with context.Pool(1, maxtasksperchild=1) as pool:
                pairs.append(
                    pool.starmap(
                        steps_in_own_process, [(experiment, False), (experiment, True)], chunksize=1
                    )
                )
        ratios = sorted(back / kept for back, kept in pairs)
        report(
            f"{experiment}: step, freed memory given back / kept",
            spread(ratios),
            "kept is the default, on glibc",
        )


def steps_in_own_process(experiment: str, keep: bool) -> float:
    warnings.filterwarnings("ignore")
    if keep:
        keep_freed_memory()
    work = steps_in(None, 40, experiment)
    work()
    return seconds(work)


def sweep() -> None:
    """Compare twelve quick jobs with joblib on all cores with Hydra's basic launcher, and with twelve separate commands."""
    quick = ["+experiment=quickstart", "application.steps=100", "application.eval_samples=500"]
    jobs = ["-m", *quick, f"seed=range({JOBS})"]
    with TemporaryDirectory() as folder:

        def apart() -> None:
            for seed in range(JOBS):
                command(folder, *quick, f"seed={seed}")

        joblib = seconds(lambda: command(folder, *jobs, "hydra/launcher=joblib"))
        one_by_one = seconds(lambda: command(folder, *jobs))
        report(
            f"{JOBS} quick jobs: Hydra's own launcher / joblib",
            f"{one_by_one / joblib:.2f}",
            "one pair; goal >= 1.6 on 2 cores",
        )
        report(
            f"{JOBS} quick jobs: a command each / joblib",
            f"{seconds(apart) / joblib:.2f}",
            "one pair",
        )


def measurement() -> None:
    """Compare all metrics of 10,000 images of 32 x 32, those of real images included, with one pass of the images through the networks."""
    cfg = netinv_lightning.compose(["+experiment=cifar_invert"])
    classifier, verifiers = (
        load_classifier(cfg),
        {name: load_zoo(name) for name in cfg.application.verifiers},
    )
    real = ImageDataModule(**cfg.data)
    images = Images(torch.rand(10_000, 3, 32, 32), torch.arange(10_000) % 10)

    def passes() -> None:
        for network in (classifier, *verifiers.values()):
            extract_features(network, images.images_nCHW)

    extract_features(classifier, images.images_nCHW[:1000])
    everything = seconds(lambda: Measurement(classifier, verifiers, real)(images))
    once = seconds(passes)
    report(
        "all metrics of 10,000 images / one pass through 3 networks",
        f"{everything / once:.1f}",
        f"{everything:.0f} s; goal < 60 s on 2 cores",
    )


def command(folder: str, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "netinv_lightning.run", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
    )


def spread(ratios: list[float]) -> str:
    return f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def report(name: str, value: str, note: str = "") -> None:
    """Print a number and write it to bench.csv, where it replaces the previous value."""
    print(f"{name:58s} {value:>24s}  {note}", flush=True)
    path = HERE / "bench.csv"
    rows: dict[str, list[str]] = {}
    if path.is_file():
        with path.open(newline="") as file:
            rows = {row[0]: row for row in list(csv.reader(file))[1:]}
    rows[name] = [name, value, note]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["figure", "median (range)", "note"], *rows.values()])


PARTS = {
    "step": step_and_terms,
    "memory": kept_memory,
    "generators": several_generators,
    "command": whole_command,
    "sweep": sweep,
    "measurement": measurement,  # needs CIFAR-10
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"parts to run: {', '.join(PARTS)} (default: all)"
    )
    chosen = parser.parse_args().parts or list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    for part in chosen:
        PARTS[part]()


if __name__ == "__main__":
    main()
