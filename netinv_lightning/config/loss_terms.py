"""The registry of loss terms: the name of each term, and the rule of each of its options.

The function of a term has the same name in `netinv_lightning/inversion/terms.py`; its keyword
arguments are the options. This module does not import torch, so that a config is checked
before torch is loaded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from netinv_lightning.config.rules import (
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    Count,
    Flag,
    ListOfNames,
    Names,
    Number,
    Rule,
)

LOSS_TERMS: dict[str, Mapping[str, Rule]] = {
    # The papers' terms.
    "kl": {"double_softmax": Flag()},
    "ce": {"label_smoothing": SHARE},
    "cosine": {"absolute": Flag(), "layers": ListOfNames()},
    "orthogonality": {"normalize": Flag(), "layers": ListOfNames()},
    "kl_perturbed": {"double_softmax": Flag()},
    "ce_perturbed": {"label_smoothing": SHARE},
    "variation": {},
    "pixel": {},
    "gradient": {"per_image": Flag()},
    # Other terms.
    "l1": {},
    "batch_norm": {"pixels": NOT_NEGATIVE},
    "class_spread": {"distance": NOT_NEGATIVE, "pool": Count(1, 64)},
    "feature_spread": {"cosine": SHARE, "layers": ListOfNames()},
    "stationarity": {"sharpness": POSITIVE},
    "duality": {"level": POSITIVE},
    # Priors that need no statistics stored in the classifier.
    "pixel_statistics": {},
    "spectrum": {"slope": NOT_NEGATIVE},
    "patch_similarity": {"bandwidth": Number(0.005, 1), "tokens": Count(2, 4096)},
    # Terms of data-free distillation.
    "own_prediction": {},
    "activation": {"layers": ListOfNames()},
    "balance": {},
    "contrast": {
        "temperature": POSITIVE,
        "least_crop": Number(0, 1, above=True),
        "layers": ListOfNames(),
    },
    # Terms of published presets of `method=gradient`.
    "logit": {},
    "batch_norm_l2": {"first": NOT_NEGATIVE},
    "total_variation": {},
    "pixel_norm": {},
    # Several classifiers are inverted at once.
    "networks": {"statistics": NOT_NEGATIVE, "networks": ListOfNames()},
    # Predictive uncertainty of the classifier or of other networks.
    "uncertainty": {
        "kind": Names(("predictive", "epistemic")),
        "passes": Count(2, 1000),
        "networks": ListOfNames(),
    },
}
"""The terms in the order in which they are documented and shown."""

WHEN = Names(("batch_norm", "no_batch_norm"))
"""Values of `when`, an option of every term: for which networks the term is used.

`batch_norm` means networks with BatchNorm layers that have running statistics."""
OPTIONS_OF_ALL_TERMS: dict[str, Rule] = {"weight": NOT_NEGATIVE, "when": WHEN}
OPTION_MEANINGS = {
    "weight": "Weight of the term in the objective. A term of weight 0 is only logged.",
    "when": "For which networks the term is used: those with BatchNorm layers that have running "
    "statistics (`batch_norm`), or the others (`no_batch_norm`). Without it, for all networks.",
    "layers": "Feature layers, among `classifier.feature_layers`, over which the term is summed; "
    "null for all of them.",
}
"""Meanings of the options of several terms. Docstrings of the terms describe the other options."""
NEEDS = {
    "batch_norm_l2": "BatchNorm layers with running statistics",
    "networks": "other networks in loss.networks.networks",
    "uncertainty": "dropout layers, or other networks in loss.uncertainty.networks",
    "pixel_statistics": "a known normalisation (classifier.mean and classifier.std)",
    "spectrum": "images as input",
    "patch_similarity": "tokens [B, T, D] before LayerNorm layers",
    "contrast": "images or signals as input",
}
"""What a network must have for a term, in words."""


def settled(loss: Mapping[Any, Any], used: Collection[Any]) -> dict[str, Any]:
    """Return the terms without the option `when`; unused terms that have it are left out."""
    return {
        str(term): {key: value for key, value in options.items() if key != "when"}
        for term, options in loss.items()
        if "when" not in options or term in used
    }
