"""Rules that approximate the classifier, from its boundary between inverted samples.

The rules follow Saad and Wunsch (HYPINV, Neural Networks 20(1), 2007). Each class gets conjunctions
of half-spaces. Their hyperplanes touch the boundary between one class and another (`pairs`), or
between one class and all others together (`rest`), in feature or in pixel space. Rules are
evaluated by their fidelity: the agreement with the classifier on held-out samples.

Shape suffixes: n samples, B batch, X coordinates of a sample (features or pixels).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from safetensors.torch import save_file
from torch import Tensor

from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.interpretability.boundary import sample_pairs, tangent_hyperplanes
from netinv_lightning.interpretability.figures.charts import draw_rule_fidelity
from netinv_lightning.interpretability.rule_fidelity import RuleMeasures, measure_rules
from netinv_lightning.interpretability.rules import RuleSet, learn_rules
from netinv_lightning.interpretability.study_input import StudyInput, StudyResult
from netinv_lightning.metric_names import interpretation
from netinv_lightning.runs.file_writing import write_atomically

PAIRS = {"features": 10, "pixels": 5}
"""Boundary points per pair of classes; fewer for pixels, where each one requires passes through
the network."""
KINDS = (("features", "pairs"), ("features", "rest"), ("pixels", "rest"))


@dataclass(frozen=True)
class Space:
    """A space in which rules are learned: its coordinates and its map to logits."""

    coordinates: Callable[[FeatureSet], Tensor]
    logits_of: Callable[[Tensor], Tensor]


def analyse_rules(inputs: StudyInput) -> StudyResult:
    """Learn rules of each kind on half of the inverted samples, measure, write and draw them."""
    result, test = StudyResult(), inputs.test
    fit, held_out = inputs.inverted.halves(inputs.seed)
    spaces = _spaces(inputs)
    descriptions, measured = [], {}
    tensors: dict[str, Tensor] = {}
    for name, outside in KINDS:
        space = spaces[name]
        rules = _learn(space, fit, PAIRS[name], inputs.seed, against_rest=outside == "rest")
        measures = measure_rules(
            rules,
            training=(space.coordinates(fit), fit.predicted_n),
            inverted=(space.coordinates(held_out), held_out.predicted_n),
            real=None if test is None else (space.coordinates(test), test.predicted_n),
            seed=inputs.seed,
        )
        measured[f"{name}, {outside}"] = measures
        tensors |= {
            f"{name}_{outside}/normals": rules.planes.normal_hX.contiguous(),
            f"{name}_{outside}/offsets": rules.planes.offset_h.contiguous(),
        }
        result.metrics |= _metrics(f"{name}_{outside}", measures)
        against = "all other classes together" if outside == "rest" else "one other class"
        descriptions.append(
            f"In the {name}, against {against}:\n\n{rules.describe(inputs.class_names)}\n"
        )
    write_atomically(inputs.figures.parent / "rules.txt", "\n".join(descriptions))
    save_file(tensors, inputs.figures.parent / "rules.safetensors")
    _draw(inputs, result, measured)
    return result


def _spaces(inputs: StudyInput) -> dict[str, Space]:
    shape = inputs.inverted.images_nCHW.shape[1:]
    return {
        "features": Space(lambda samples: samples.features_nD, inputs.head),
        "pixels": Space(
            lambda samples: samples.images_nCHW.flatten(1),
            lambda x_BX: inputs.classify(x_BX.unflatten(1, shape)),
        ),
    }


def _learn(space: Space, fit: FeatureSet, per_pair: int, seed: int, against_rest: bool) -> RuleSet:
    samples_nX = space.coordinates(fit)
    start_n, end_n = sample_pairs(fit.predicted_n, per_pair, seed)
    planes = tangent_hyperplanes(
        space.logits_of,
        from_nX=samples_nX[start_n],
        to_nX=samples_nX[end_n],
        against_rest=against_rest,
    )
    return learn_rules(samples_nX, fit.predicted_n, planes)


def _metrics(kind: str, measures: RuleMeasures) -> dict[str, float]:
    metrics = {
        interpretation("rules", kind, "number"): float(measures.rules),
        interpretation("rules", kind, "length"): measures.mean_length,
        interpretation("rules", kind, "precision_fitted"): measures.mean_precision,
        interpretation("rules", kind, "tree_leaves"): float(measures.tree_leaves),
    }
    for origin, fidelity in (("inverted", measures.inverted), ("test", measures.real)):
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
    for kind, measures in measured.items():
        names += [f"rules: {kind}", f"tree: {kind.split(',')[0]}"]
        inverted += [measures.inverted.rules, measures.inverted.tree]
        real += [measures.real.rules, measures.real.tree] if measures.real else [None, None]
        sizes += [
            f"{measures.rules} rules, length {measures.mean_length:.1f}",
            f"{measures.tree_leaves} leaves",
        ]
    names.append("majority class")
    inverted.append(measures.inverted.majority)
    real.append(measures.real.majority if measures.real else None)
    sizes.append("")
    path = draw_rule_fidelity(
        names,
        inverted=inverted,
        real=real,
        sizes=sizes,
        path=inputs.figures / "rules",
        title=f"{inputs.name}: fidelity of rules",
    )
    caption = "agreement of rules, decision trees and the majority class with the classifier"
    result.figures.append((path, caption))
