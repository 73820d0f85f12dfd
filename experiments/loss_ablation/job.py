"""One job of the loss ablation: train a generator, and measure its images.

The images are measured here and not by the command, so that the features of the real images are
computed once per data set.

Shape suffixes: n images, K images per class, N classes, C channels, H height, W width.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from statistics import mean
from threading import Lock

import torch
from PIL import Image
from torch import Tensor

from experiments.jobs import Row, netinv
from experiments.loss_ablation.variants import MNIST, PICTURED, REAL, VARIANTS
from experiments.recipes import UNUSED_SEEDS
from experiments.run_files import number_rows, read_summary
from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.verifiers import load_verifiers
from netinv_lightning.config.compose import compose
from netinv_lightning.data.pixels import to_uint8
from netinv_lightning.evaluation.image_sets import Images, read_samples
from netinv_lightning.evaluation.measurement import Measurement
from netinv_lightning.evaluation.real_data import of_split, open_data

HERE = Path(__file__).parent
STRIPS = HERE / "strips"
STEPS, SAMPLES = 400, 1000
CURVE = (20, 40, 60, 80, 100, 150, 200, 300, 400)
"""Steps at which the inversion accuracy over the last ten batches is kept."""
ATTACKED = (
    names.VENDI,
    names.VENDI_CLASS,
    names.INTRA_CLASS_COSINE,
    names.INTER_CLASS_COSINE,
)
"""Numbers of the features of the attacked classifier, and of the verifiers (unseen features)."""
UNSEEN_ONLY = (names.KID, names.COVERAGE)
OF_SUMMARY = (
    names.INVERSION_ACCURACY,
    names.INVERSION_ACCURACY_HOT,
    names.INVERSION_KL,
    names.INVERSION_CONFIDENCE,
    names.TRAINING_SECONDS,
    names.STEPS_TO_95,
)
VARIATION = "total_variation"
_one_at_a_time = Lock()
"""Held while networks and data are loaded, because Hydra is not thread-safe, or images measured."""


def strip_path(variant: str) -> Path:
    """Return the file of the pictures of a variant."""
    return STRIPS / f"{variant.replace(' ', '_')}.png"


def unseen(name: str) -> str:
    """Return the name of the mean over the verifiers of a number of their features."""
    return f"unseen/{name}"


def one(recipe: str, variant: str, seed: int) -> list[Row]:
    """Run one inversion, measure its images and return the rows."""
    if variant == REAL:
        return number_rows(_of_real(recipe, seed), recipe=recipe, variant=variant, seed=seed)
    run_dir = netinv(
        f"+experiment={recipe}",
        f"seed={seed}",
        f"application.steps={STEPS}",
        f"application.eval_samples={SAMPLES}",
        f"application.keep_samples={SAMPLES}",
        "application.verifiers=[]",
        "application.grid_every=1000000",
        "trainer.precision=32-true",
        *VARIANTS[variant],
    )
    summary = read_summary(run_dir)
    images = _samples(recipe, run_dir)
    numbers = {name: summary[name] for name in OF_SUMMARY if name in summary}
    numbers |= measured(recipe, images)
    numbers |= {f"curve/{step}": value for step, value in curve(run_dir).items()}
    if (recipe, seed) == (MNIST, UNUSED_SEEDS[0]) and variant in PICTURED:
        strip(images).save(strip_path(variant), optimize=True)
    return number_rows(numbers, recipe=recipe, variant=variant, seed=seed)


def measured(recipe: str, images: Images) -> dict[str, float]:
    """Return the numbers of a set of images in the features of all networks."""
    measurement = _measurement(recipe)
    with _one_at_a_time:
        found = measurement(images)
    numbers = {name: found[name] for name in (names.TRANSFER_ACCURACY, names.DUPLICATES)}
    numbers |= {name: found[name] for name in ATTACKED}
    for name in (*ATTACKED, *UNSEEN_ONLY):
        of_verifiers = [value for key, value in found.items() if key.startswith(f"{name}/")]
        numbers[unseen(name)] = mean(of_verifiers)
    return numbers | {VARIATION: total_variation(images.images_nCHW)}


def total_variation(x_nCHW: Tensor) -> float:
    """Return the mean absolute difference of vertical plus that of horizontal neighbours."""
    return sum(float(x_nCHW.diff(dim=side).abs().mean()) for side in (2, 3))


def curve(run_dir: Path) -> dict[int, float]:
    """Return the inversion accuracy of the training batches at the steps of `CURVE`."""
    with (run_dir / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get(names.INVERSION_ACCURACY_TRAIN)]
    found = {int(row["step"]) + 1: float(row[names.INVERSION_ACCURACY_TRAIN]) for row in rows}
    return {step: found[step] for step in CURVE if step in found}


def strip(images: Images, columns: int = 2) -> Image.Image:
    """Return one row of pictures, the first images of each class."""
    first_KNCHW = [
        images.images_nCHW[images.labels_n == label][:columns] for label in images.labels_n.unique()
    ]
    pixels_HW = torch.cat([x_CHW[0] for x_KCHW in first_KNCHW for x_CHW in x_KCHW], dim=1)
    return Image.fromarray(to_uint8(pixels_HW).numpy())


def _samples(recipe: str, run_dir: Path) -> Images:
    spec = _measurement(recipe).context.classifier.spec
    return read_samples(run_dir / "samples" / "inverted.safetensors", "samples", spec)


def _of_real(recipe: str, seed: int) -> dict[str, float]:
    real = _measurement(recipe).context.real
    assert real is not None
    return measured(recipe, of_split(real.test, SAMPLES, seed))


def _measurement(recipe: str) -> Measurement:
    with _one_at_a_time:
        return _load(recipe)


@cache
def _load(recipe: str) -> Measurement:
    cfg = compose([f"+experiment={recipe}"])
    classifier = load_classifier(cfg)
    real, missing = open_data(cfg.data, classifier.spec)
    assert real is not None, missing
    verifiers = load_verifiers(cfg.application.verifiers, cfg, classifier)
    return Measurement(classifier, verifiers, real, ("transfer", "diversity", "manifold", "fid"))
