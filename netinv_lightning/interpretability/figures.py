"""Figures of what is inside a classifier (paper S2, section 5.1): each function draws one from plain tensors and writes it whole,
as PNG and PDF.
"""

from netinv_lightning.figures.scores import (
    Roc,
    agreement_curve,
    cluster_counts,
    rule_fidelity,
    separation_curves,
)
from netinv_lightning.interpretability.plane_figures import (
    decision_regions,
    pca_scatter,
    tsne_panels,
)
from netinv_lightning.interpretability.unit_figures import (
    class_overlap,
    unit_activations,
    unit_images,
)

__all__ = [
    "Roc",
    "agreement_curve",
    "class_overlap",
    "cluster_counts",
    "decision_regions",
    "pca_scatter",
    "rule_fidelity",
    "separation_curves",
    "tsne_panels",
    "unit_activations",
    "unit_images",
]
