"""Principal components of the inverted features, and what the classifier decides over their plane (A4-1, A4-2, A8-3)."""

from __future__ import annotations

import torch

from netinv_lightning.interpretability.figures import agreement_curve, pca_scatter
from netinv_lightning.interpretability.figures import decision_regions as draw_regions
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
    result, test = StudyResult(), inputs.test
    fit, inverted = inputs.inverted.halves(inputs.seed)
    projection = Projection.fit(fit.features_nD)
    K = len(projection.variance_K)
    told = spread(inverted.features_nD, inverted.labels_n, inputs.N)
    result.metrics |= {
        interpretation("variance_of_plane"): float(projection.variance_K[:PLANE].sum()),
        interpretation("components_90"): float(projection.components_for(0.9)),
        interpretation("between_classes"): told.between,
        interpretation("between_classes_by_chance"): told.between_by_chance,
        interpretation("spread_within_class"): float(told.within_N.nanmean()),
    }
    result.metrics |= {
        interpretation("spread_within", label): float(within)
        for label, within in zip(inputs.class_names, told.within_N, strict=True)
        if not within.isnan()
    }
    if test is not None:
        of_test = spread(test.features_nD, test.labels_n, inputs.N)
        result.metrics[interpretation("between_classes_test")] = of_test.between
        result.metrics[interpretation("spread_within_class_test")] = float(
            of_test.within_N.nanmean()
        )
    z_n2 = projection.encode(inverted.features_nD, PLANE)
    real = (
        (None, None)
        if test is None
        else (projection.encode(test.features_nD, PLANE), test.labels_n)
    )
    path = pca_scatter(
        z_n2, inverted.labels_n, projection.variance_K, inputs.class_names, inputs.figures / "pca",
        f"{inputs.name}: features in their principal plane", *real,
    )  # fmt: skip
    result.figures.append(
        (path, "features of inverted samples, principal components of their other half")
    )

    dims = [k for k in (0, *DIMS) if k < K] + [K]
    origins = {"inverted": inverted} | ({} if test is None else {"test": test})
    curves, most_common = {}, 0.0
    for origin, samples in origins.items():
        for what, measure in (("agreement", agreement), ("boundary_agreement", boundary_agreement)):
            curve = measure(projection, inputs.head, samples.features_nD, samples.logits_nN, dims)
            result.metrics[interpretation(what, origin)] = curve[PLANE]
            chance = result.metrics[interpretation(f"{what}_of_chance", origin)] = curve.pop(0)
            most_common = max(most_common, chance)
            curves[f"{origin}, {'all samples' if what == 'agreement' else 'lowest margins'}"] = (
                curve
            )
    path = agreement_curve(
        curves,
        inputs.figures / "agreement",
        f"{inputs.name}: decisions on few components",
        most_common,
    )
    result.figures.append(
        (path, "share of samples that keep their class on the first k principal components")
    )

    regions = decision_regions(
        projection, inputs.head, z_n2 if real[0] is None else torch.cat([z_n2, real[0]])
    )
    result.metrics[interpretation("classes_on_plane")] = regions.classes_present
    path = draw_regions(
        regions.class_HW, regions.confidence_HW, regions.x_W, regions.y_H, z_n2, inverted.labels_n, inputs.class_names,
        inputs.figures / "regions", f"{inputs.name}: decision regions", projection.variance_K,
        result.metrics[interpretation("agreement", "inverted")], *real,
    )  # fmt: skip
    result.figures.append(
        (path, "decision regions over the principal plane: inverse PCA, then the head")
    )
    return result
