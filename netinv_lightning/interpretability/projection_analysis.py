"""Principal components of the inverted features, and the decisions on their plane.

It reproduces Fig. 3 of Suhail, Tang and Sethi (2024, arXiv 2411.17777, section 5.1).

Shape suffixes: m real samples, 2 plane coordinates.
"""

from __future__ import annotations

import torch

from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.interpretability.figures.charts import draw_agreement
from netinv_lightning.interpretability.figures.pca import draw_pca
from netinv_lightning.interpretability.figures.regions import draw_regions
from netinv_lightning.interpretability.projection import Projection, spread
from netinv_lightning.interpretability.regions import (
    agreement,
    boundary_agreement,
    decision_regions,
)
from netinv_lightning.interpretability.study_input import StudyInput, StudyResult
from netinv_lightning.metric_names import interpretation

DIMS = (1, 2, 3, 4, 5, 7, 9, 12, 16, 24, 32, 48, 64, 96, 128)
PLANE = 2


def analyse_projection(inputs: StudyInput) -> StudyResult:
    """Fit components on half of the inverted samples; measure and draw the other half."""
    result = StudyResult()
    fit, inverted = inputs.inverted.halves(inputs.seed)
    projection = Projection.fit(fit.features_nD)
    result.metrics |= {
        interpretation("variance_of_plane"): float(projection.variance_K[:PLANE].sum()),
        interpretation("components_90"): float(projection.components_for(0.9)),
    }
    _measure_spread(inputs, inverted, result)
    _measure_agreement(inputs, inverted, projection, result)
    _draw_plane(inputs, inverted, projection, result)
    return result


def _measure_spread(inputs: StudyInput, inverted: FeatureSet, result: StudyResult) -> None:
    spreads = spread(inverted.features_nD, inverted.labels_n, inputs.N)
    result.metrics |= {
        interpretation("between_classes"): spreads.between,
        interpretation("between_classes_by_chance"): spreads.between_by_chance,
        interpretation("spread_within_class"): float(spreads.within_N.nanmean()),
    }
    result.metrics |= {
        interpretation("spread_within", label): float(within)
        for label, within in zip(inputs.class_names, spreads.within_N, strict=True)
        if not within.isnan()
    }
    if inputs.test is not None:
        of_test = spread(inputs.test.features_nD, inputs.test.labels_n, inputs.N)
        result.metrics |= {
            interpretation("between_classes_test"): of_test.between,
            interpretation("spread_within_class_test"): float(of_test.within_N.nanmean()),
        }


def _measure_agreement(
    inputs: StudyInput, inverted: FeatureSet, projection: Projection, result: StudyResult
) -> None:
    """Measure how many samples keep their class on the first k components, and draw the curves."""
    K = len(projection.variance_K)
    dims = [k for k in (0, *DIMS) if k < K] + [K]
    origins = {"inverted": inverted} | ({} if inputs.test is None else {"test": inputs.test})
    measures = {
        "agreement": ("all samples", agreement),
        "boundary_agreement": ("lowest margins", boundary_agreement),
    }
    curves, chances = {}, []
    for origin, samples in origins.items():
        for name, (group, measure) in measures.items():
            curve = measure(projection, inputs.head, samples.features_nD, samples.logits_nN, dims)
            chance = curve.pop(0)
            result.metrics |= {
                interpretation(name, origin): curve[PLANE],
                interpretation(f"{name}_of_chance", origin): chance,
            }
            curves[f"{origin}, {group}"] = curve
            chances.append(chance)
    path = draw_agreement(
        curves,
        path=inputs.figures / "agreement",
        title=f"{inputs.name}: decisions on few principal components",
        chance=max(chances),
    )
    caption = "share of samples that keep their class on the first k principal components"
    result.figures.append((path, caption))


def _draw_plane(
    inputs: StudyInput, inverted: FeatureSet, projection: Projection, result: StudyResult
) -> None:
    test = inputs.test
    z_n2 = projection.encode(inverted.features_nD, PLANE)
    real = None if test is None else (projection.encode(test.features_nD, PLANE), test.labels_n)
    path = draw_pca(
        z_n2,
        label_n=inverted.labels_n,
        variance_K=projection.variance_K,
        class_names=inputs.class_names,
        path=inputs.figures / "pca",
        title=f"{inputs.name}: features in the plane of two principal components",
        real=real,
    )
    caption = "one half of the inverted samples on the principal components of the other half"
    result.figures.append((path, caption))
    points_m2 = z_n2 if real is None else torch.cat([z_n2, real[0]])
    regions = decision_regions(projection, inputs.head, points_m2)
    result.metrics[interpretation("classes_on_plane")] = regions.classes_present
    path = draw_regions(
        regions,
        z_n2=z_n2,
        label_n=inverted.labels_n,
        class_names=inputs.class_names,
        variance_K=projection.variance_K,
        agreement=result.metrics[interpretation("agreement", "inverted")],
        path=inputs.figures / "regions",
        title=f"{inputs.name}: decision regions",
        real=real,
    )
    caption = (
        "decision regions in the plane of two principal components: inverse PCA, then the head"
    )
    result.figures.append((path, caption))
