"""The images that the methods draw, and the solutions that they are compared with.

Shape suffixes: n images, I input bits, S solutions.
"""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from experiments.sat_coverage.coverage import bits_of, every_input, lead, predicted
from experiments.sat_coverage.networks import choice, network_of, small_digits
from netinv_lightning.config.compose import compose
from netinv_lightning.data.datasets import digits
from netinv_lightning.evaluation.build import build_fit_context
from netinv_lightning.inversion.base import Inversion
from netinv_lightning.inversion.build import build_inversion
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.methods.sat import SatInversion
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.tracking.run_context import RunContext

DRAWN = {"4x4": 100_000, "8x8": 5_000}
"""Images of each method and seed, all classes together."""
MOST_BY_GRADIENT = 10_000
REFERENCES = 200
"""Uniform solutions per class that should be near an image."""
STEPS = 200
OVERRIDES = {
    "papers": ("loss=inversion",),
    "papers, hot": ("loss=inversion", "conditioning.vectors=hot"),
    "papers, vector": ("loss=inversion", "conditioning=vector"),
    "papers, spread": ("loss=inversion", "loss.cosine.weight=10", "loss.orthogonality.weight=10"),
    "papers, long": ("loss=inversion", "application.steps=1000"),
    "papers, 8": ("loss=inversion", "n_generators=8"),
    "natural": ("loss=natural",),
    "gradient": ("method=gradient",),
    "sat": ("method=sat",),
    "other classes": ("method=sat",),
}


def overrides_of(part: str, method: str) -> tuple[str, ...]:
    """Return the overrides of a method; the views of `loss=natural` do not exist for tables."""
    no_views = ("augmentation={shift: 0, rotation: 0, scale: 0, shear: 0}",)
    return OVERRIDES[method] + (no_views if (part, method) == ("4x4", "natural") else ())


def trained_generator(name: str, overrides: tuple[str, ...], seed: int) -> tuple[Inversion, float]:
    """Train a generator for a network of `networks.py`; return it and the CPU seconds."""
    cfg = compose([
        "application=invert", *choice(name), f"seed={seed}", f"application.steps={STEPS}",
        "trainer.precision=32-true", *overrides,
    ])  # fmt: skip
    inversion, start = build_inversion(cfg), time.process_time()
    with TemporaryDirectory() as folder, RunContext(cfg, RunDir(Path(folder))) as context:
        for part in (context.directory.checkpoints, context.figures):
            part.mkdir(exist_ok=True)
        inversion.fit(build_fit_context(cfg, context))
    return inversion, time.process_time() - start


@torch.no_grad()
def drawn(inversion: Inversion, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the bits of drawn images [n, I] and the requested labels [n]."""
    torch.manual_seed(seed)
    bits, labels = [], []
    for part in range(count // 1000):  # several generators take turns
        condition = inversion.conditioning.sample(1000)
        images = inversion.draw(condition, part % inversion.n_generators)
        bits.append(bits_of(inversion.classifier, images))
        labels.append(condition.label_B)
    return torch.cat(bits), torch.cat(labels)


def real_digits(part: str) -> Tensor:
    """Return the bits of the training digits, [n, I]."""
    small = part == "4x4"
    x = small_digits(train=True)[0] if small else digits(Path(), train=True)[0].float() / 255
    return bits_of(network_of(part), x)


def images_of(part: str, method: str, seed: int) -> tuple[Tensor, dict[str, float]]:
    """Return the bits of the images of a method [n, I], with its accuracy and CPU seconds."""
    if method == "real digits":
        return real_digits(part), {}
    count, fitting = DRAWN[part], 0.0
    if method in ("gradient", "sat", "other classes"):
        cfg = compose(["application=invert", *choice(part), *overrides_of(part, method)])
        inversion: Inversion = build_inversion(cfg)
        count = min(count, MOST_BY_GRADIENT) if method == "gradient" else count
    else:
        inversion, fitting = trained_generator(part, overrides_of(part, method), seed)
    start = time.process_time()
    bits_nI, label_n = drawn(inversion, count, seed)
    drawing = time.process_time() - start
    right_n = predicted(inversion.classifier, bits_nI) == label_n
    return bits_nI, {
        "accuracy": float(right_n.double().mean()),
        "seconds": fitting,
        "seconds_per_1000": drawing / count * 1000,
    }


@cache
def solutions(margin: int = 0, count: int = REFERENCES, seed: int = 1) -> list[Tensor]:
    """Return uniform solutions [n, I] of each class of the 8 x 8 network."""
    classifier = network_of("8x8")
    method = SatInversion(Conditioning(10, 8), classifier, margin=margin)
    torch.manual_seed(seed)
    images_nCHW = method.draw(
        method.conditioning.of_labels(torch.arange(10).repeat_interleave(count))
    )
    return [*bits_of(classifier, images_nCHW).split(count)]


@cache
def median_lead(part: str) -> int:
    """Return the median lead of the logits of real digits, which makes a solution confident."""
    return int(lead(network_of(part), real_digits(part)).median())


@cache
def exact_solutions(confident: bool) -> list[Tensor]:
    """Return all solutions of each class of the 4 x 4 network, [S] numbers of inputs.

    They are found by evaluating all inputs; `proofs.py` compares a class with the solver.
    """
    classifier = network_of("4x4")
    bits_nI = every_input(16)
    label_n, lead_n = predicted(classifier, bits_nI), lead(classifier, bits_nI)
    enough_n = lead_n >= (median_lead("4x4") if confident else 0)
    return [((label_n == label) & enough_n).nonzero()[:, 0] for label in range(10)]
