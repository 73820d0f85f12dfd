"""The papers' CNN with half its channels.

There is one classifier per data set and seed; it is trained once and shared by several experiments.
"""

from __future__ import annotations

from pathlib import Path

from experiments.jobs import ROOT, netinv

STAGES = "stages=[[16],[32,32],[64,64]]"
HALF_CNN = ["classifier=cnn", f"+classifier.network.{STAGES}"]
PLAIN = {
    "mnist": ["recipe.epochs=2", "data.shift=2", "data.batch_size=128"],
    "fashion_mnist": ["recipe.epochs=3", "data.shift=1", "data.flip=true", "data.batch_size=128"],
    "svhn_head": ["recipe.epochs=25", "data.shift=3", "data.batch_size=64"],
    "cifar10": ["recipe.epochs=8", "data.shift=4", "data.flip=true", "data.batch_size=128"],
}
"""Overrides that train the plain classifier of each data set."""
VERIFIERS = {
    "mnist": "[mnist_mlp,mnist_resnet]",
    "fashion_mnist": "[fashion_mnist_mlp,fashion_mnist_resnet]",
    "svhn_head": "[svhn_head_resnet,svhn_head_vit]",
    "cifar10": "[cifar10_resnet,cifar10_vit]",
}
"""The networks of the zoo with which transfer accuracy is measured."""


def plain(data: str, seed: int, *classes: str) -> Path:
    """Return the plain classifier of a data set and seed; train it if its file is missing."""
    path = ROOT / "classifiers" / "ood" / f"{data}{'_some' if classes else ''}_{seed}.safetensors"
    if not path.with_suffix(".json").exists():
        where = [f"data={data}", f"seed={seed}", f"application.save_as={path}", *classes]
        netinv("application=train_classifier", *HALF_CNN, *where, *PLAIN[data])
    return path
