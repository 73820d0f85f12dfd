"""The papers' CNN at half its width on each data set, a classifier a seed: what several experiments ask, trained once for all of them."""

from __future__ import annotations

from pathlib import Path

from jobs import ROOT, netinv

STAGES = "stages=[[16],[32,32],[64,64]]"
HALF_CNN = ["classifier=cnn", f"+classifier.network.{STAGES}"]
PLAIN = {
    "mnist": ["recipe.epochs=2", "data.shift=2", "data.batch_size=128"],
    "fashion_mnist": ["recipe.epochs=3", "data.shift=1", "data.flip=true", "data.batch_size=128"],
    "svhn_head": ["recipe.epochs=25", "data.shift=3", "data.batch_size=64"],
    "cifar10": ["recipe.epochs=8", "data.shift=4", "data.flip=true", "data.batch_size=128"],
}
"""How the plain classifier of each data set is trained."""
VERIFIERS = {
    "mnist": "[mnist_mlp,mnist_resnet]",
    "fashion_mnist": "[fashion_mnist_mlp,fashion_mnist_resnet]",
    "svhn_head": "[svhn_head_resnet,svhn_head_vit]",
    "cifar10": "[cifar10_resnet,cifar10_vit]",
}
"""The networks that are asked whether they recognise its inverted images."""


def plain(data: str, seed: int, *classes: str) -> Path:
    """The plain classifier of a data set and seed; trained where it is not there."""
    path = ROOT / "classifiers" / "ood" / f"{data}{'_some' if classes else ''}_{seed}.safetensors"
    if not path.with_suffix(".json").exists():
        where = [f"data={data}", f"seed={seed}", f"application.save_as={path}", *classes]
        netinv("application=train_classifier", *HALF_CNN, *where, *PLAIN[data])
    return path
