"""Invert EfficientNet-Lite0 for ten classes of ImageNet; classify the images with Lite1 and Lite2.

    python -m experiments.any_classifier.imagenet.run

The jobs run one after the other, each on all cores, because the table reports seconds. The classes
of the recipe were not used to choose settings.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.jobs import Row, netinv_on_all_cores
from experiments.page import markdown, run_experiment, shown
from experiments.recipes import UNUSED_SEEDS
from experiments.run_files import read_summary
from netinv_lightning.classifiers.efficientnet_lite import (
    RESOLUTIONS,
    efficientnet_lite,
    published,
)
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.config.layer_names import PENULTIMATE
from netinv_lightning.data.datasets import LOADERS
from netinv_lightning.data.pixels import to_unit_range
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.evaluation.image_sets import Images, read_samples
from netinv_lightning.figures import image_grid
from netinv_lightning.metrics.diversity import Vendi

HERE = Path(__file__).parent
SIDES = (128, 160, 192, 224, 260)
"""Sides at which the inverted network classifies the images, in pixels."""
SHOWN = 6
"""Images per class in the picture."""
PER_CLASS = 20
"""Photographs per class; the recipe saves about the same number of images per class."""
BATCH = 25
COLUMNS = {
    "seconds": "seconds of training",
    **{f"lite0_{side}_top1": f"Lite0 at {side}" for side in SIDES},
    "lite1_240_top1": "Lite1 at 240, top-1",
    "lite1_240_top5": "top-5",
    "lite2_260_top1": "Lite2 at 260, top-1",
    "lite2_260_top5": "top-5 ",
    "vendi_lite1": "Vendi within a class",
}
JOBS = [
    ("photographs of CIFAR-10", 0),
    *(("imagenet_invert", seed) for seed in UNUSED_SEEDS),
]


def facts(variant: int) -> DataSpec:
    """Return the classes and the normalisation of a variant, at its own resolution."""
    values = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in published(variant).items()
    }
    return DataSpec("imagenet", **values)


def network(variant: int) -> FrozenClassifier:
    """Return EfficientNet-Lite with its ImageNet weights, at its own resolution."""
    return FrozenClassifier(efficientnet_lite(variant), facts(variant))


@torch.no_grad()
def classified(classifier: FrozenClassifier, images: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return logits [n, 1000] and penultimate features [n, D] of images resized to a side."""
    parts = []
    for x_BCHW in images.split(BATCH):
        view_BCHW = F.interpolate(x_BCHW, (side, side), mode="bilinear", antialias=True)
        logits_BN, features = classifier.logits_and_features(view_BCHW)
        parts.append((logits_BN, features[PENULTIMATE]))
    logits, features = zip(*parts, strict=True)
    return torch.cat(logits), torch.cat(features)


def vendi(features_nD: Tensor, label_n: Tensor) -> float:
    """Return the mean Vendi score within a class."""
    label_n = label_n.unique(return_inverse=True)[1]
    metric = Vendi(int(label_n.max()) + 1, features_nD.shape[1])
    metric.update(features_nD, label_n)
    return float(metric.compute()["class_mean"])


def top(logits_nN: Tensor, label_n: Tensor, k: int) -> float:
    """Return the share of images with their label among the k largest logits."""
    return float((logits_nN.topk(k, dim=1).indices == label_n[:, None]).any(dim=1).double().mean())


def measured(images: Images) -> Iterator[tuple[str, float]]:
    """Yield the name and value of each number of a set of images."""
    x_nCHW, label_n = images.images_nCHW, images.labels_n
    inverted = network(0)
    for side in SIDES:
        yield f"lite0_{side}_top1", top(classified(inverted, x_nCHW, side)[0], label_n, 1)
    for variant in (1, 2):
        side = RESOLUTIONS[variant]
        logits_nN, features_nD = classified(network(variant), x_nCHW, side)
        yield f"lite{variant}_{side}_top1", top(logits_nN, label_n, 1)
        yield f"lite{variant}_{side}_top5", top(logits_nN, label_n, 5)
        if variant == 1:
            yield "vendi_lite1", vendi(features_nD, label_n)


def photographs(per_class: int) -> Images:
    """Return photographs of CIFAR-10 as a reference for diversity; they are real, but small."""
    root = Path(os.environ.get("NETINV_DATA", "data"))
    images_nCHW, label_n = LOADERS["cifar10"](root, False)
    first = torch.cat([(label_n == label).nonzero()[:per_class, 0] for label in range(10)])
    return Images(to_unit_range(images_nCHW[first]), label_n[first])


def one(images: str, seed: int) -> list[Row]:
    """Make or read the images of one row, and measure them; keep the picture of the first seed."""
    if images == "photographs of CIFAR-10":
        reference = photographs(PER_CLASS)
        _, features_nD = classified(network(1), reference.images_nCHW, RESOLUTIONS[1])
        return [row(images, seed, {"vendi_lite1": vendi(features_nD, reference.labels_n)})]
    run_dir = netinv_on_all_cores("+experiment=imagenet_invert", f"seed={seed}")
    samples = run_dir / "samples" / "inverted.safetensors"
    drawn = read_samples(samples, str(samples), facts(0))
    if seed == UNUSED_SEEDS[0]:
        draw(drawn, HERE / "imagenet_invert.png")
    summary = read_summary(run_dir)
    seconds = {"seconds": summary["cost/training_seconds"]}
    return [row(images, seed, seconds | dict(measured(drawn)))]


def row(images: str, seed: int, values: dict[str, float]) -> Row:
    """Return a row of results.csv; what was not measured is empty."""
    numbers = {name: f"{values[name]:.4f}" if name in values else "" for name in COLUMNS}
    return {"images": images, "seed": seed, **numbers}


def draw(images: Images, path: Path) -> None:
    """Draw the first images of each class."""
    names, labels = published(0)["class_names"], images.labels_n.unique()
    x_KXCHW = torch.stack([images.images_nCHW[images.labels_n == k][:SHOWN] for k in labels])
    image_grid(x_KXCHW, [names[label] for label in labels.tolist()], path, "EfficientNet-Lite0")


def tables(rows: list[Row]) -> dict[str, str]:
    """Return the tables of the page."""
    lines = []
    for images in dict.fromkeys(row["images"] for row in rows):
        chosen = [row for row in rows if row["images"] == images]
        values = ([float(row[name]) for row in chosen if row[name]] for name in COLUMNS)
        digits = (0 if name == "seconds" else 2 for name in COLUMNS)
        lines.append([images, *(shown(*pair) for pair in zip(values, digits, strict=True))])
    return {"transfer": markdown(["images", *COLUMNS.values()], lines)}


def main() -> None:
    run_experiment(__doc__, HERE, ("images", "seed"), JOBS, one, tables, at_once=1)


if __name__ == "__main__":
    main()
