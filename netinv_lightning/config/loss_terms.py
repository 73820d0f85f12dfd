"""The registry of loss terms: the name of each term, and the rule of each of its options.

The function of a term has the same name in `netinv_lightning/inversion/terms.py`; its keyword
arguments are the options. Imports are light, so that a config is checked before torch is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping

from netinv_lightning.config.ranges import (
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    Count,
    Flag,
    ListOfNames,
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
}
"""The terms in the order in which they are documented and shown."""
