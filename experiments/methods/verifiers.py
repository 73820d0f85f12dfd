"""Networks that judge the images of the benchmark and on which no setting was ever chosen.

The verifiers of the zoo helped to choose the defaults of the methods. Those of the benchmark are
therefore trained for it: the same architectures with other seeds and shorter training.
"""

from __future__ import annotations

from pathlib import Path

from experiments.jobs import ROOT, netinv

FOLDER = ROOT / "classifiers" / "methods"
RECIPES = {
    "mnist": {
        "mnist_resnet_102": ["+experiment=zoo/mnist_resnet", "seed=102", "recipe.epochs=2"],
        "mnist_vit_103": ["+experiment=zoo/mnist_vit", "seed=103", "recipe.epochs=4"],
    },
    "cifar10": {
        "cifar10_resnet_101": ["+experiment=zoo/cifar10_resnet", "seed=101", "recipe.epochs=4"],
        "cifar10_vit_102": ["+experiment=zoo/cifar10_vit", "seed=102", "recipe.epochs=4"],
    },
}
"""For each data set, the names of the verifiers and the overrides that train them."""


def verifiers(data: str) -> list[Path]:
    """Return the verifiers of a data set; train those whose files are missing."""
    paths = []
    for name, recipe in RECIPES[data].items():
        path = FOLDER / f"{name}.safetensors"
        if not path.with_suffix(".json").exists():
            netinv(*recipe, f"application.save_as={path}")
        paths.append(path)
    return paths
