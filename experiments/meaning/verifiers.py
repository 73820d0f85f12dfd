"""Networks that report the results, and those on which the settings were chosen.

The reporting ones are of another kind than all networks that are inverted or that chose: strided
convolutions with GroupNorm and GELU, without BatchNorm and pooling. No setting was chosen on them.
"""

from __future__ import annotations

from pathlib import Path

from experiments.jobs import ROOT, netinv

FOLDER = ROOT / "classifiers" / "meaning"
STRIDED = "+experiment=zoo/mnist_strided"
CHOOSING = {
    "mnist_resnet_201": ["+experiment=zoo/mnist_resnet", "seed=201", "recipe.epochs=2"],
}
"""Besides the `mnist_vit` of the zoo."""
REPORTING = {
    "mnist_strided_301": [STRIDED, "seed=301", "recipe.epochs=2"],
    "mnist_strided_302": [
        STRIDED,
        "seed=302",
        "recipe.epochs=1",
        "data.shift=3",
        "+classifier.network.kernel=5",
        "+classifier.network.widths=[24,48]",
    ],
}


def trained(recipes: dict[str, list[str]]) -> list[Path]:
    """Return the files of networks; train those whose files are missing."""
    paths = []
    for name, recipe in recipes.items():
        path = FOLDER / f"{name}.safetensors"
        if not path.with_suffix(".json").exists():
            netinv(*recipe, f"application.save_as={path}")
        paths.append(path)
    return paths
