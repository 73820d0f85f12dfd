"""The two networks of the study, the images that the methods draw, and the solutions.

Shape suffixes: n images, I input bits.
"""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.jobs import ROOT
from experiments.sat_coverage.coverage import bits_of, predicted
from netinv_lightning.api import load_run
from netinv_lightning.classifiers.binarised import BinarisedMLP, integer_layers
from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.config.compose import compose
from netinv_lightning.data.datasets import digits
from netinv_lightning.inversion.base import Inversion
from netinv_lightning.inversion.build import build_inversion
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.methods.cnf import NetworkCnf
from netinv_lightning.inversion.methods.sat import SatInversion
from netinv_lightning.inversion.methods.sat_models import all_models
from netinv_lightning.run import run

HERE = Path(__file__).parent
ZOO = "digits_binarised"
DRAWN = 10_000
"""Images of each method and seed, all classes together."""
DRAWN_BY_CMSGEN = 2_000
REFERENCES = 200
"""Uniform solutions per class that should be near an image."""
STEPS = 200
COMMANDS = {
    "gradient": ["method=gradient"],
    "sat": ["method=sat"],
    "cmsgen": ["method=sat", "method.search=cmsgen"],
    "other classes": ["method=sat"],
}


def digits4() -> Path:
    """Write the 4 x 4 digits, means of 2 x 2 pixels of the 8 x 8 digits, and return the file."""
    path = ROOT / "data" / "digits4.npz"
    if not path.exists():
        arrays = {}
        for split, training in (("train", True), ("test", False)):
            images_nCHW, label_n = digits(Path(), training)
            arrays[f"x_{split}"] = F.avg_pool2d(images_nCHW.float(), 2).round().byte().numpy()
            arrays[f"y_{split}"] = label_n.numpy()
        path.parent.mkdir(exist_ok=True)
        np.savez(path, **arrays)
    return path


def netinv(*overrides: str) -> Inversion:
    """Run a command in this process, whose CPU time is measured, and load its result."""
    with TemporaryDirectory() as folder:
        run(compose(overrides), Path(folder) / "run")
        return load_run(Path(folder) / "run").module


@cache
def choice(part: str) -> tuple[str, ...]:
    """Return the overrides that choose the network; the 4 x 4 network is trained once."""
    if part == "8x8":
        return ("data=digits", f"classifier.zoo={ZOO}")
    weights, data = HERE / "digits4_binarised.safetensors", f"data.path={digits4()}"
    if not weights.exists():
        overrides = (
            "application=train_classifier", "data=npz", data, "data.val_fraction=0",
            "data.batch_size=50", "classifier=binarised", "+classifier.network.widths=[12]",
            "recipe.epochs=30", "recipe.optimizer=adamw", "recipe.lr=0.03",
            "recipe.weight_decay=0", "seed=0", f"application.save_as={weights}",
        )  # fmt: skip
        with TemporaryDirectory() as folder:
            run(compose(overrides), Path(folder) / "run")
    return "data=npz", data, "classifier=checkpoint", f"classifier.path={weights}"


@cache
def network_of(part: str) -> FrozenClassifier:
    cfg = compose(["application=invert", "method=sat", *choice(part)])
    return build_inversion(cfg).classifier if part == "4x4" else load_zoo(ZOO)


@torch.no_grad()
def drawn(inversion: Inversion, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the bits of drawn images [n, I] and the requested labels [n]."""
    torch.manual_seed(seed)
    bits, labels = [], []
    for _ in range(count // 1000):
        condition = inversion.conditioning.sample(1000)
        bits.append(bits_of(inversion.classifier, inversion.draw(condition)))
        labels.append(condition.label_B)
    return torch.cat(bits), torch.cat(labels)


def images_of(part: str, method: str, seed: int) -> tuple[Tensor, dict[str, float]]:
    """Return the bits of the images of a method [n, I], with its accuracy and seconds."""
    start = time.process_time()
    if method == "real digits":
        images_nCHW = digits(Path(), train=True)[0].float() / 255
        images_nCHW = F.avg_pool2d(images_nCHW, 2) if part == "4x4" else images_nCHW
        return bits_of(network_of(part), images_nCHW), {}
    if method == "generator":
        inversion = netinv(
            "application=invert", *choice(part), f"seed={seed}", f"application.steps={STEPS}",
            "application.eval_samples=100", "application.keep_samples=100",
        )  # fmt: skip
    else:
        cfg = compose(["application=invert", *choice(part), *COMMANDS[method]])
        inversion = build_inversion(cfg)
    count = DRAWN_BY_CMSGEN if method == "cmsgen" else DRAWN
    bits_nI, label_n = drawn(inversion, count, seed)
    seconds = time.process_time() - start
    right_n = predicted(inversion.classifier, bits_nI) == label_n
    return bits_nI, {"accuracy": float(right_n.double().mean()), "seconds": seconds * DRAWN / count}


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
def all_solutions() -> list[Tensor]:
    """Return all solutions [n, I] of each class of the 4 x 4 network."""
    classifier = network_of("4x4")
    assert isinstance(classifier.network, BinarisedMLP)
    network = NetworkCnf(integer_layers(classifier.network))
    return [all_models(network.of_class(label), network.inputs)[0] for label in range(10)]
