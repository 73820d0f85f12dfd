"""S2 section 5.1 on all four data sets: `make interpretability`.

`studied` runs have two generators and every study; `clusters` runs have one generator and several weights of the cosine term (A3-7).
How jobs are run: experiments/jobs.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import mean, stdev

from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from jobs import Row, netinv, run_missing  # noqa: E402

RESULTS = HERE / "results.csv"
DATA = {
    "mnist_invert": ("MNIST", "mnist"),
    "fmnist_invert": ("FashionMNIST", "fashion_mnist"),
    "svhn_invert": ("SVHN (head)", "svhn_head"),
    "cifar_invert": ("CIFAR-10", "cifar10"),
}
SEEDS = (0, 1, 2)
WEIGHTS = (0, 1, 10)
FEW = ["interpret.analyses=[clusters]", "interpret.perplexities=[30]", "interpret.embedding_seeds=[0]", "interpret.embedded=500"]
STUDIED = "studied"
JOBS = [
    *((experiment, STUDIED, seed) for seed in SEEDS for experiment in DATA),
    *((experiment, f"clusters, cosine {weight}", seed) for seed in SEEDS for experiment in DATA for weight in WEIGHTS),
]
FIGURES = {
    "mnist_invert": ("pca", "regions", "tsne", "sparse_images", "sparse_overlap", "rules"),
    "fmnist_invert": ("regions",),
    "svhn_invert": ("regions",),
    "cifar_invert": ("regions", "sparse_images", "rules"),
}
"""Kept of the first seed."""
TOLD = {
    "inversion/accuracy": "inversion accuracy",
    "interpretation/variance_of_plane": "variance on the first two components",
    "interpretation/components_90": "components for 90 % of it",
    "interpretation/between_classes": "variance between classes, inverted",
    "interpretation/between_classes_test": "variance between classes, test",
    "interpretation/classes_on_plane": "classes that own ground on the plane",
    "interpretation/agreement/inverted": "plane agrees, inverted",
    "interpretation/agreement/test": "plane agrees, test",
    "interpretation/boundary_agreement/inverted": "plane agrees near the boundary, inverted",
    "interpretation/boundary_agreement/test": "plane agrees near the boundary, test",
    "interpretation/clusters": "clusters a class, inverted (two generators)",
    "interpretation/clusters_test": "clusters a class, test",
    "interpretation/tsne_overlap/30": "t-SNE: same neighbours over seeds",
    "interpretation/sparse/unexplained/test": "k-sparse: unexplained, test",
    "interpretation/sparse/unexplained_pca/test": "control, PCA: unexplained, test",
    "interpretation/sparse/unexplained/inverted": "k-sparse: unexplained, inverted",
    "interpretation/conv_sparse/unexplained/test": "convolutional: unexplained, test",
    "interpretation/sparse/dead/inverted": "dead units, inverted",
    "interpretation/sparse/selectivity": "class selectivity of units",
    "interpretation/overlap/training_inverted": "units that fire for both: training, inverted",
    "interpretation/overlap/training_test": "units that fire for both: training, test",
    "interpretation/overlap/training_halves": "control: two halves of training",
    "interpretation/overlap/between_generators": "units that fire for both: two generators",
    "interpretation/overlap/generator_halves": "control: two halves of a generator",
    "interpretation/anomaly/reconstruction/auc": "AUC, reconstruction error",
    "interpretation/anomaly/reconstruction_pca/auc": "control: of PCA",
    "interpretation/anomaly/pattern/auc": "AUC, activation pattern",
    "interpretation/anomaly/pattern_features/auc": "control: of plain features",
    "interpretation/anomaly/regression/auc": "AUC, regression on activations",
    "interpretation/anomaly/regression_features/auc": "control: on plain features",
    "interpretation/anomaly/reconstruction/auc_test_against_training": "control: test against training",
    "interpretation/rules/features_rest/fidelity/inverted": "rules in features, fidelity to inverted",
    "interpretation/rules/features_rest/fidelity/test": "rules in features, fidelity to test",
    "interpretation/rules/features_rest/fidelity_tree/test": "control: tree in features, test",
    "interpretation/rules/features_rest/number": "rules in features, number",
    "interpretation/rules/pixels_rest/fidelity/inverted": "rules in pixels, fidelity to inverted",
    "interpretation/rules/pixels_rest/fidelity/test": "rules in pixels, fidelity to test",
    "interpretation/rules/pixels_rest/fidelity_tree/test": "control: tree in pixels, test",
    "interpretation/rules/pixels_rest/length": "rules in pixels, length",
}
COUNTED = {
    "inversion/accuracy": "inversion accuracy",
    "interpretation/clusters": "clusters a class",
    "interpretation/classes_of_two_clusters": "share of classes with two",
    "interpretation/clusters_hdbscan": "HDBSCAN",
    "interpretation/clusters_tsne/30": "in t-SNE",
    "interpretation/silhouette": "silhouette",
    "interpretation/silhouette_level": "its level by chance",
}


def overrides(variant: str) -> list[str]:
    if variant == STUDIED:
        return ["n_generators=2"]
    return [f"loss.cosine.weight={variant.rpartition(' ')[2]}", *FEW]


def one(experiment: str, variant: str, seed: int) -> list[Row]:
    run_dir = netinv(
        f"+experiment={experiment}", f"seed={seed}", f"data={DATA[experiment][1]}", "interpret=full", "application.eval_samples=5000",
        "application.verifiers=[]", *overrides(variant),
    )  # fmt: skip
    if seed == SEEDS[0] and variant == STUDIED:
        for figure in FIGURES[experiment]:
            keep(run_dir / "figures" / f"{figure}.png", HERE / f"{experiment}_{figure}.png")
    summary = json.loads((run_dir / "summary.json").read_text())
    chosen = {name: value for name, value in summary.items() if name.startswith("interpretation/") or name == "inversion/accuracy"}
    return [
        {"experiment": experiment, "variant": variant, "seed": seed, "number": name, "value": f"{value:.4f}"}
        for name, value in chosen.items()
    ]


def keep(figure: Path, path: Path) -> None:
    """A small copy of a figure: half its size."""
    with Image.open(figure) as image:
        image.convert("RGB").reduce(2).save(path, optimize=True)


def cell(rows: list[Row], experiment: str, variant: str, number: str) -> str:
    """Mean and spread over the seeds."""
    wanted = (experiment, variant, number)
    values = [float(str(row["value"])) for row in rows if (row["experiment"], row["variant"], row["number"]) == wanted]
    return f"{mean(values):.3f} ± {stdev(values):.3f}" if len(values) > 1 else "".join(f"{value:.3f}" for value in values)


def tables(rows: list[Row]) -> str:
    """What the page shows: the numbers of the studied runs, and clusters over the weight of the cosine term."""
    titles = [title for title, _ in DATA.values()]
    lines = ["| number | " + " | ".join(titles) + " |", "| --- " * (len(DATA) + 1) + "|"]
    lines += [
        f"| {told} | " + " | ".join(cell(rows, experiment, STUDIED, name) for experiment in DATA) + " |" for name, told in TOLD.items()
    ]
    lines += ["", "| data | cosine weight | " + " | ".join(COUNTED.values()) + " |", "| --- " * (len(COUNTED) + 2) + "|"]
    for experiment, (title, _) in DATA.items():
        for weight in WEIGHTS:
            cells = [cell(rows, experiment, f"clusters, cosine {weight}", name) for name in COUNTED]
            lines.append(f"| {title} | {weight} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(tables(run_missing(RESULTS, ("experiment", "variant", "seed"), JOBS, one)))
