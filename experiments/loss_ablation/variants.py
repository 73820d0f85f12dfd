"""The variants of the loss ablation, as overrides of the recipes, and the order of the jobs."""

from __future__ import annotations

from experiments.recipes import DATA_OF_RECIPE

MNIST = "mnist_invert"
TERMS = ("ce", "kl", "cosine", "orthogonality")
ALL = "all four terms"
"""L_Inv with all weights 1, a dropout of 0.1 and a temperature of 1: the recipes as they are."""


def without(*terms: str) -> list[str]:
    """Return the overrides that leave terms out."""
    return [f"~loss.{term}" for term in terms]


def alone(term: str) -> list[str]:
    """Return the overrides that leave out all other terms."""
    return without(*(other for other in TERMS if other != term))


ABLATION = {
    ALL: [],
    **{f"without {term}": without(term) for term in TERMS},
    **{f"{term} alone": alone(term) for term in TERMS},
}
NO_DROPOUT = ["generator.dropout=0"]
FIRST = {
    "ce, no dropout": [*alone("ce"), *NO_DROPOUT],
    "ce, kl, no dropout": [*without("cosine", "orthogonality"), *NO_DROPOUT],
    "ce, kl, cosine, no dropout": [*without("orthogonality"), *NO_DROPOUT],
}
"""The first experiments of the analysis note, and its third without dropout; its third with dropout
is `without orthogonality`."""
FACTORS = (0.1, 10, 100)
"""Weights of a term besides 0 and 1, which are in `ABLATION`."""


def weighted(term: str) -> dict[str, list[str]]:
    """Return the variants that give a term another weight than 0 or 1."""
    return {f"{term} x {factor}": [f"loss.{term}.weight={factor}"] for factor in FACTORS}


COSINE, ORTHOGONALITY = weighted("cosine"), weighted("orthogonality")
ABSTRACT = {
    "ce, kl": without("cosine", "orthogonality"),
    **{
        f"ce, kl, cosine x {factor}": [*without("orthogonality"), f"loss.cosine.weight={factor}"]
        for factor in FACTORS
    },
}
"""Weights of the cosine term in the objective of the student abstract, without orthogonality."""
RATES = (0, 0.4, 0.7)
"""Rates of dropout besides 0.1, that of the recipes."""
DROPOUT = {f"dropout {rate}": [f"generator.dropout={rate}"] for rate in RATES}
SAMPLED_OFF = {
    f"dropout {rate}, off at sampling": [
        f"generator.dropout={rate}",
        "application.sampling_dropout=false",
    ]
    for rate in (0.1, 0.4, 0.7)
}
TEMPERATURES = (0.15, 0.3, 2)
"""Temperatures besides 1, that of the recipes."""
TEMPERATURE = {f"temperature {t}": [f"conditioning.temperature={t}"] for t in TEMPERATURES}
NOTEBOOK = [
    "loss=reference",
    "~loss.l1",
    "loss.kl.weight=10",
    "loss.orthogonality.normalize=true",
]
"""The weights of the public notebooks, with KL as strong as the other terms, and its double
softmax. Orthogonality is normalised; its raw form prevents every inversion (see loss=reference)."""
KNOBS = {
    "label smoothing 0.1": ["+loss.ce.label_smoothing=0.1"],
    "learning rate / 10": ["application.lr=0.0006"],
    "learning rate x 10": ["application.lr=0.06"],
    "weight decay 0.001": ["application.weight_decay=0.001"],
    "batch of 16": ["application.batch_size=16"],
    "batch of 192": ["application.batch_size=192"],
    "l1 0.0001": ["+loss.l1.weight=0.0001"],
}
"""The hyper-parameters that the slides explain; the recipe has none of the terms, a learning rate
of 0.006, and batches of 48 images."""
WEIGHTED = {
    "notebook weights": NOTEBOOK,
    **{f"notebook weights, without {term}": [*NOTEBOOK, f"~loss.{term}"] for term in TERMS},
}


def sweep(values: dict[float, str], name: str, others: tuple[float, ...]) -> dict[float, str]:
    """Return the variant of each value, in order; that of `others` is called `name` and value."""
    return dict(sorted((values | {value: f"{name} {value}" for value in others}).items()))


SWEEPS = {
    "cosine": sweep({0: "without cosine", 1: ALL}, "cosine x", FACTORS),
    "orthogonality": sweep({0: "without orthogonality", 1: ALL}, "orthogonality x", FACTORS),
    "abstract": sweep({0: "ce, kl", 1: "without orthogonality"}, "ce, kl, cosine x", FACTORS),
    "temperature": sweep({1: ALL}, "temperature", TEMPERATURES),
    "dropout": sweep({0.1: ALL}, "dropout", RATES),
}
"""The variant of each value that is varied."""
VARIANTS = (
    ABLATION
    | FIRST
    | COSINE
    | ORTHOGONALITY
    | ABSTRACT
    | DROPOUT
    | SAMPLED_OFF
    | TEMPERATURE
    | KNOBS
    | WEIGHTED
)
OTHERS = [recipe for recipe in DATA_OF_RECIPE if recipe != MNIST]
REAL = "real images"
"""The variant in whose place real test images are measured."""
COLLAPSE = (REAL, ALL, "ce alone")
"""The variants that test on all data sets whether cross-entropy alone collapses."""
PICTURED = (*ABLATION, *COSINE)
"""The variants whose images of the first seed are kept."""


def jobs() -> list[tuple[str, str]]:
    """Return recipe and variant of the jobs, those that settle most first."""
    first = [REAL, ALL, *(f"without {term}" for term in TERMS), "ce alone", *COSINE, *DROPOUT]
    on_mnist = [*first, *FIRST, *TEMPERATURE, *(name for name in ABLATION if name not in first)]
    on_mnist += KNOBS
    later = [*ORTHOGONALITY, *ABSTRACT, *SAMPLED_OFF]
    return [
        *((MNIST, variant) for variant in on_mnist),
        *((recipe, variant) for recipe in OTHERS for variant in COLLAPSE),
        *((MNIST, variant) for variant in later),
        *((recipe, name) for recipe in OTHERS for name in ABLATION if name not in COLLAPSE),
        *((MNIST, variant) for variant in WEIGHTED),
    ]
