"""Rules that stand for the classifier's decisions, from the boundary between inverted samples (Saad & Wunsch 2007; A11).

Each class gets conjunctions of half-spaces. Their hyperplanes touch the boundary of one class against one other (`pairs`), or
against all others together (`rest`), in the features or in the pixels. What rules are worth is their fidelity, the agreement with
the classifier, on samples that they were not learned from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from safetensors.torch import save_file
from torch import Tensor

from netinv_lightning.interpretability.boundary import sample_pairs, tangent_hyperplanes
from netinv_lightning.interpretability.features import FeatureSet
from netinv_lightning.interpretability.figures import rule_fidelity
from netinv_lightning.interpretability.rule_fidelity import RuleMeasures, measure_rules
from netinv_lightning.interpretability.rules import learn_rules
from netinv_lightning.interpretability.study_input import StudyInput, StudyResult
from netinv_lightning.metric_names import interpretation
from netinv_lightning.runs.run_directory import write_atomically

PAIRS = {"features": 10, "pixels": 5}
"""Boundary points for each pair of classes; one in the pixels takes passes through the whole classifier."""
KINDS = (("features", "pairs"), ("features", "rest"), ("pixels", "rest"))


@dataclass(frozen=True)
class Space:
    """Where rules are made: how samples are seen there, and the classifier from there."""

    of: Callable[[FeatureSet], Tensor]
    logits_of: Callable[[Tensor], Tensor]


def analyse_rules(inputs: StudyInput) -> StudyResult:
    result = StudyResult()
    fit, held = inputs.inverted.halves(inputs.seed)
    shape = fit.images_nCHW.shape[1:]
    spaces = {
        "features": Space(lambda samples: samples.features_nD, inputs.head),
        "pixels": Space(
            lambda samples: samples.images_nCHW.flatten(1),
            lambda x_BX: inputs.classify(x_BX.unflatten(1, shape)),
        ),
    }
    start_n, end_n = {}, {}
    for name, count in PAIRS.items():
        start_n[name], end_n[name] = sample_pairs(fit.predicted_n, count, inputs.seed)
    described, measured = [], {}
    tensors: dict[str, Tensor] = {}
    for name, outside in KINDS:
        space = spaces[name]
        samples_nX = space.of(fit)
        planes = tangent_hyperplanes(
            space.logits_of,
            samples_nX[start_n[name]],
            samples_nX[end_n[name]],
            against_rest=outside == "rest",
        )
        rules = learn_rules(samples_nX, fit.predicted_n, planes)
        real = None if inputs.test is None else (space.of(inputs.test), inputs.test.predicted_n)
        told = measure_rules(
            rules,
            (samples_nX, fit.predicted_n),
            (space.of(held), held.predicted_n),
            real,
            inputs.seed,
        )
        measured[f"{name}, {outside}"] = told
        tensors |= {
            f"{name}_{outside}/normals": rules.planes.normal_hX,
            f"{name}_{outside}/offsets": rules.planes.offset_h,
        }
        result.metrics |= _metrics(f"{name}_{outside}", told)
        against = "all others together" if outside == "rest" else "one other class"
        described.append(
            f"In the {name}, against {against}:\n\n{rules.describe(inputs.class_names)}\n"
        )
    write_atomically(inputs.figures.parent / "rules.txt", "\n".join(described))
    save_file(
        {name: x.contiguous() for name, x in tensors.items()},
        inputs.figures.parent / "rules.safetensors",
    )
    _draw(inputs, result, measured)
    return result


def _metrics(kind: str, told: RuleMeasures) -> dict[str, float]:
    metrics = {
        interpretation("rules", kind, "number"): float(told.rules),
        interpretation("rules", kind, "length"): told.mean_length,
        interpretation("rules", kind, "precision_fitted"): told.mean_precision,
        interpretation("rules", kind, "tree_leaves"): float(told.tree_leaves),
    }
    for origin, fidelity in (("inverted", told.inverted), ("test", told.real)):
        if fidelity is not None:
            metrics |= {
                interpretation("rules", kind, "fidelity", origin): fidelity.rules,
                interpretation("rules", kind, "ambiguous", origin): fidelity.ambiguous,
                interpretation("rules", kind, "uncovered", origin): fidelity.uncovered,
                interpretation("rules", kind, "fidelity_tree", origin): fidelity.tree,
                interpretation("rules", kind, "fidelity_majority", origin): fidelity.majority,
            }
    return metrics


def _draw(inputs: StudyInput, result: StudyResult, measured: dict[str, RuleMeasures]) -> None:
    names, inverted, sizes = [], [], []
    real: list[float | None] = []
    for kind, told in measured.items():
        names += [f"rules: {kind}", f"tree: {kind.split(',')[0]}"]
        inverted += [told.inverted.rules, told.inverted.tree]
        real += [told.real.rules, told.real.tree] if told.real else [None, None]
        sizes += [f"{told.rules} rules of {told.mean_length:.1f}", f"{told.tree_leaves} leaves"]
    names.append("majority class")
    inverted.append(told.inverted.majority)
    real.append(told.real.majority if told.real else None)
    sizes.append("")
    path = rule_fidelity(
        names,
        inverted,
        real,
        sizes,
        inputs.figures / "rules",
        f"{inputs.name}: rules for the classifier",
    )
    result.figures.append(
        (path, "agreement of rules, decision trees and the majority class with the classifier")
    )
