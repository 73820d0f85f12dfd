"""Figures of a run by subject, named by the stem of their file."""

from __future__ import annotations

INTERPRETABILITY = (
    "pca",
    "regions",
    "agreement",
    "clusters",
    "tsne",
    "sparse_units",
    "sparse_units_of_classes",
    "sparse_overlap",
    "sparse_images",
    "anomaly",
    "rules",
)
"""Figures of `interpret=full`."""

DETECTION = ("detection", "roc", "confidence")
"""Figures of `application=detect_ood`."""

PRIVACY = ("best_pairs", "audit", "exposed", "informed")
"""Figures of `application=reconstruct` and `application=audit`."""

USES = ("counterfeits", "taught", "finetuning")
"""Figures of `application=counterfeit`, `application=distill` and `application=finetune`."""
