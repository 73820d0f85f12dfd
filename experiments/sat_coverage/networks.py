"""The binarised networks of the study, as overrides of the command; each is trained once.

Shape suffixes: n images, C channels, H height, W width, F features.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from experiments.jobs import ROOT
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.config.compose import compose
from netinv_lightning.data.datasets import digits
from netinv_lightning.inversion.build import build_inversion
from netinv_lightning.run import run

TRAINED = ROOT / "data" / "sat_coverage"
"""Weights of the networks that are not in the zoo; not committed."""
WIDTHS = {
    "4x4": [24],
    "8x8": [24],
    "8x8, 64": [64],
    "8x8, 128": [128],
    "8x8, 256": [256],
    "8x8, 64-64": [64, 64],
    "14x14, 64": [64],
}
"""Width of each hidden layer, by the name of the network."""
IN_ZOO = {"8x8": ("digits", "digits_binarised"), "14x14, 64": ("mnist14", "mnist14_binarised")}
"""Data set and name in the zoo."""


def small_digits(train: bool) -> tuple[Tensor, Tensor]:
    """Return the digits as tables: 16 means of 2 x 2 pixels from 0 to 1 [n, F], and labels [n]."""
    images_nCHW, label_n = digits(Path(), train)
    return F.avg_pool2d(images_nCHW.float() / 255, 2).flatten(1), label_n


def small_digits_file() -> Path:
    """Write `small_digits` and return the file."""
    path = TRAINED / "digits4.npz"
    if not path.exists():
        arrays = {}
        for split, training in (("train", True), ("test", False)):
            x_nF, label_n = small_digits(training)
            arrays |= {f"x_{split}": x_nF.numpy(), f"y_{split}": label_n.numpy()}
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **arrays)
    return path


@cache
def choice(name: str) -> tuple[str, ...]:
    """Return the overrides that choose a network; one that is not in the zoo is trained once."""
    if name in IN_ZOO:
        data, zoo = IN_ZOO[name]
        return f"data={data}", f"classifier.zoo={zoo}"
    data_set = (
        ("data=npz", f"data.path={small_digits_file()}") if name == "4x4" else ("data=digits",)
    )
    weights = TRAINED / f"{'-'.join(map(str, WIDTHS[name]))}.safetensors"
    if not weights.exists():
        overrides = (
            "application=train_classifier", *data_set, "data.val_fraction=0",
            "data.batch_size=50", "classifier=binarised",
            f"+classifier.network.widths={WIDTHS[name]}", "recipe.epochs=60",
            "recipe.optimizer=adamw", "recipe.lr=0.03", "recipe.weight_decay=0", "seed=0",
            f"application.save_as={weights}",
        )  # fmt: skip
        with TemporaryDirectory() as folder:
            run(compose(overrides), Path(folder) / "run")
    return *data_set, "classifier=checkpoint", f"classifier.path={weights}"


@cache
def network_of(name: str) -> FrozenClassifier:
    """Return the frozen network."""
    cfg = compose(["application=invert", "method=gradient", *choice(name)])
    return build_inversion(cfg).classifier
