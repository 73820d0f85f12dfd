"""Analyse the features of inverted images on all four data sets: `make interpretability`.

Suhail, Tang and Sethi 2024 (arXiv:2411.17777), section 5.1.

The variant `studied` has two generators and all analyses. The variants `clusters` have one
generator each, at several weights of the cosine term.
"""

from __future__ import annotations

from pathlib import Path

from experiments.jobs import Row, netinv
from experiments.page import markdown, pick, run_experiment, shown
from experiments.run_files import copy_figure, number_rows, read_summary

ANOMALY, RULES = "interpretation/anomaly", "interpretation/rules"
HERE = Path(__file__).parent
DATA = {
    "mnist_invert": ("MNIST", "mnist"),
    "fmnist_invert": ("FashionMNIST", "fashion_mnist"),
    "svhn_invert": ("SVHN (head)", "svhn_head"),
    "cifar_invert": ("CIFAR-10", "cifar10"),
}
SEEDS = (0, 1, 2)
WEIGHTS = (0, 1, 10)
FEW = [
    "interpret.analyses=[clusters]",
    "interpret.perplexities=[30]",
    "interpret.embedding_seeds=[0]",
    "interpret.embedded=500",
]
STUDIED = "studied"
JOBS = [
    *((experiment, STUDIED, seed) for seed in SEEDS for experiment in DATA),
    *(
        (experiment, f"clusters, cosine {weight}", seed)
        for seed in SEEDS
        for experiment in DATA
        for weight in WEIGHTS
    ),
]
FIGURES = {
    "mnist_invert": ("pca", "regions", "tsne", "sparse_images", "sparse_overlap", "rules"),
    "fmnist_invert": ("regions",),
    "svhn_invert": ("regions",),
    "cifar_invert": ("regions", "sparse_images", "rules"),
}
"""Figures of the first seed that the page shows."""
NUMBERS = {
    "inversion/accuracy": "inversion accuracy",
    "interpretation/variance_of_plane": "variance on the first two components",
    "interpretation/components_90": "components for 90 % of it",
    "interpretation/between_classes": "variance between classes, inverted",
    "interpretation/between_classes_test": "variance between classes, test",
    "interpretation/classes_on_plane": "share of classes with a region on the plane",
    "interpretation/agreement/inverted": "agreement on the plane, inverted",
    "interpretation/agreement/test": "agreement on the plane, test",
    "interpretation/boundary_agreement/inverted": "agreement near the boundary, inverted",
    "interpretation/boundary_agreement/test": "agreement near the boundary, test",
    "interpretation/clusters": "clusters per class, inverted (two generators)",
    "interpretation/clusters_test": "clusters per class, test",
    "interpretation/tsne_overlap/30": "t-SNE: shared neighbours across seeds",
    "interpretation/sparse/unexplained/test": "unexplained variance, k-sparse, test",
    "interpretation/sparse/unexplained_pca/test": "control: unexplained variance, PCA, test",
    "interpretation/sparse/unexplained/inverted": "unexplained variance, k-sparse, inverted",
    "interpretation/conv_sparse/unexplained/test": "unexplained variance, convolutional, test",
    "interpretation/sparse/dead/inverted": "dead units, inverted",
    "interpretation/sparse/selectivity": "class selectivity of units",
    "interpretation/overlap/training_inverted": "overlap of active units: training and inverted",
    "interpretation/overlap/training_test": "overlap of active units: training and test",
    "interpretation/overlap/training_halves": "control: two halves of the training images",
    "interpretation/overlap/between_generators": "overlap of active units: two generators",
    "interpretation/overlap/generator_halves": "control: two halves of one generator's images",
    "interpretation/anomaly/reconstruction/auc": "AUC, reconstruction error",
    "interpretation/anomaly/reconstruction_pca/auc": "control: AUC, reconstruction error of PCA",
    "interpretation/anomaly/pattern/auc": "AUC, activation pattern",
    f"{ANOMALY}/pattern_features/auc": "control: AUC, activation pattern of plain features",
    "interpretation/anomaly/regression/auc": "AUC, regression on activations",
    "interpretation/anomaly/regression_features/auc": "control: AUC, regression on plain features",
    f"{ANOMALY}/reconstruction/auc_test_against_training": "control: AUC, test against training",
    f"{RULES}/features_rest/fidelity/inverted": "rules in features, fidelity to inverted",
    "interpretation/rules/features_rest/fidelity/test": "rules in features, fidelity to test",
    "interpretation/rules/features_rest/fidelity_tree/test": "control: tree in features, test",
    "interpretation/rules/features_rest/number": "number of rules in features",
    "interpretation/rules/pixels_rest/fidelity/inverted": "rules in pixels, fidelity to inverted",
    "interpretation/rules/pixels_rest/fidelity/test": "rules in pixels, fidelity to test",
    "interpretation/rules/pixels_rest/fidelity_tree/test": "control: tree in pixels, test",
    "interpretation/rules/pixels_rest/length": "length of rules in pixels",
}
COUNTED = {
    "inversion/accuracy": "inversion accuracy",
    "interpretation/clusters": "clusters per class",
    "interpretation/classes_of_two_clusters": "share of classes with two clusters",
    "interpretation/clusters_hdbscan": "clusters, HDBSCAN",
    "interpretation/clusters_tsne/30": "clusters, t-SNE",
    "interpretation/silhouette": "silhouette",
    "interpretation/silhouette_level": "silhouette by chance",
}


def overrides(variant: str) -> list[str]:
    """Return the overrides of a variant of the recipe."""
    if variant == STUDIED:
        return ["n_generators=2"]
    return [f"loss.cosine.weight={variant.rpartition(' ')[2]}", *FEW]


def one(experiment: str, variant: str, seed: int) -> list[Row]:
    """Run one inversion with its analyses and return its rows; keep the figures of the first
    seed."""
    run_dir = netinv(
        f"+experiment={experiment}", f"seed={seed}", f"data={DATA[experiment][1]}",
        "interpret=full", "application.eval_samples=5000",
        "application.verifiers=[]", *overrides(variant),
    )  # fmt: skip
    if seed == SEEDS[0] and variant == STUDIED:
        for figure in FIGURES[experiment]:
            copy_figure(run_dir, figure, HERE / f"{experiment}_{figure}.png")
    chosen = {
        name: value
        for name, value in read_summary(run_dir).items()
        if name.startswith("interpretation/") or name == "inversion/accuracy"
    }
    return number_rows(chosen, experiment=experiment, variant=variant, seed=seed)


def tables(rows: list[Row]) -> dict[str, str]:
    """Return the tables of the page: all numbers of the studied runs, and clusters by weight of the
    cosine term."""
    studied = [
        [
            title,
            *(
                shown(pick(rows, number, experiment=experiment, variant=STUDIED))
                for experiment in DATA
            ),
        ]
        for number, title in NUMBERS.items()
    ]
    clusters = [
        [
            title,
            str(weight),
            *(
                shown(pick(rows, n, experiment=experiment, variant=f"clusters, cosine {weight}"))
                for n in COUNTED
            ),
        ]
        for experiment, (title, _) in DATA.items()
        for weight in WEIGHTS
    ]
    return {
        "numbers": markdown(["number", *(title for title, _ in DATA.values())], studied),
        "clusters": markdown(["data", "cosine weight", *COUNTED.values()], clusters),
    }


def main() -> None:
    run_experiment(__doc__, HERE, ("experiment", "variant", "seed"), JOBS, one, tables)


if __name__ == "__main__":
    main()
