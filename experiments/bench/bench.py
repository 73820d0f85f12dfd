"""Measure speed as ratios of alternating runs: `make bench`.

Absolute times are noisy on shared machines; ratios of alternating runs are not. The script writes
the numbers that it prints to experiments/bench/bench.csv.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import warnings
from tempfile import TemporaryDirectory

import torch

import netinv_lightning
from experiments.bench.batch_terms import compare_terms
from experiments.bench.timing import report, seconds
from experiments.bench.training_steps import (
    K,
    compare_precisions,
    compare_with_bare_loop,
    kept_memory,
    measure_throughput,
    several_generators,
)
from netinv_lightning.classifiers.build import load_classifier, load_zoo
from netinv_lightning.classifiers.features import extract_features
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.measurement import Measurement

warnings.filterwarnings("ignore")
JOBS = 12


def step_and_terms() -> None:
    """Compare training steps and loss terms with plain implementations."""
    compare_with_bare_loop()
    compare_terms()
    compare_precisions()
    measure_throughput()


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


def sweep() -> None:
    """Compare twelve quick jobs under joblib on all cores with other ways to run them.

    These are Hydra's basic launcher, and twelve separate commands.
    """
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
    """Compare all metrics of 10,000 images with one pass of the images through the networks.

    The images have 32 x 32 pixels; the metrics include those that compare them with real images.
    """
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
