"""Data sets, OOD sets and variants of the experiment."""

from __future__ import annotations

NOISE = ["gaussian_noise", "uniform_noise"]
OOD_SETS = {
    "mnist": ["fashion_mnist", "svhn_head", "cifar10", "emnist_letters", *NOISE],
    "fashion_mnist": ["mnist", "svhn_head", "cifar10", "emnist_letters", *NOISE],
    "svhn_head": ["cifar10", "mnist", "fashion_mnist", *NOISE],
    "cifar10": ["svhn_head", "mnist", "fashion_mnist", *NOISE],
}
"""OOD sets of each data set; the first one is the papers' pair."""
FEW = "application.detectors=[msp,energy]"
TRAINED = ["paper", "inverted", "noise", "noise_zoomed", "exposed"]
"""Classifiers with a garbage class."""
EVERY = [
    "msp", "max_logit", "energy", "gen", "uncertainty", "lc", "odin", "oodl",
    "mahalanobis", "knn", "vim", "gmm", "cluster", "autoencoder",
]  # fmt: skip
"""The detectors of the half-width networks; `full_width` has all."""
ALL_OF_THEM = f"application.detectors=[{','.join(EVERY)}]"
VARIANTS: dict[str, list[str]] = {
    "comparison": ["garbage=[inverted,noise,noise_zoomed]", ALL_OF_THEM],
    "paper": ["garbage=paper", FEW, "garbage.paper.epochs=5", "garbage.paper.images=10000"],
    "exposed": ["garbage=exposed", FEW, "garbage.exposed.exposed=[cifar100_subset]"],
    "odds alone": ["garbage=inverted", FEW, "garbage.inverted.score=odds"],
    "all classes balanced": ["garbage=inverted", FEW, "garbage.inverted.balanced=all"],
    "without zoom": ["garbage=inverted", FEW, "garbage.inverted.zoom=1"],
    "without teacher": ["garbage=inverted", FEW, "garbage.inverted.distil=0"],
    "label smoothing": ["garbage=inverted", FEW, "garbage.inverted.label_smoothing=0.1"],
    "weight 1": ["garbage=inverted", FEW, "garbage.inverted.weight=1"],
    "BatchNorm of the batches": ["garbage=inverted", FEW, "garbage.inverted.batch_norm=batch"],
    "fresh generator": ["garbage=inverted", FEW, "garbage.inverted.generator=fresh"],
    "garbage inverted too": ["garbage=inverted", FEW, "garbage.inverted.invert_garbage=true"],
    "10 per class": ["garbage=inverted", FEW, "garbage.inverted.per_class=10"],
    "200 per class": ["garbage=inverted", FEW, "garbage.inverted.per_class=200"],
    "papers' objective": ["garbage=inverted", FEW, "garbage.inverted.inversion=[]"],
    "shifts": ["application.strengths=[0.01,0.03,0.1,0.3]",
    "application.detectors=[msp,energy,mahalanobis,knn]"],
}  # fmt: skip
NEAR = {
    "mnist": ["data.classes=[0,1,2,3,4]", "application.outliers=[left_out,emnist_letters]"],
    "cifar10": ["application.outliers=[cifar100_subset]"],
}
KEPT = {
    "auroc",
    "fpr95_in",
    "fpr95_out",
    "accuracy",
    "ece",
    "garbage_rate",
    "confidence",
    "gap",
    "gap_but_5_percent",
    "violations",
    "gain",
}
"""The last parts of the names of numbers that go into results.csv."""
COMPARED = ("comparison", "exposed", "paper")
ABLATED = ("mnist", "fashion_mnist")
ABLATIONS = {
    "comparison": "unchanged",
    "odds alone": "score: odds only",
    "all classes balanced": "all classes balanced",
    "without zoom": "without zoom",
    "without teacher": "without teacher",
    "label smoothing": "with label smoothing",
    "weight 1": "garbage weight 1",
    "BatchNorm of the batches": "BatchNorm statistics of the batches",
    "fresh generator": "fresh generator",
    "garbage inverted too": "garbage class inverted too",
    "10 per class": "10 images per class and epoch",
    "200 per class": "200 images per class and epoch",
    "papers' objective": "papers' objective",
}
"""Names, on the page, of the variants that change one key."""
