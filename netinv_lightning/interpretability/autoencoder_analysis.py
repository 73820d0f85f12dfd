"""Sparse autoencoders on the features: active units by class, origin and generator.

Suhail, Tang and Sethi (2024, arXiv 2411.17777, section 5.1).

Shape suffixes: n samples, M hidden units, U chosen units, K images of each, G groups.
"""

from __future__ import annotations

import torch
from torch import Tensor

from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.figures.titles import short
from netinv_lightning.interpretability import activations as units
from netinv_lightning.interpretability.anomaly import CONTROLS, Samples, detect
from netinv_lightning.interpretability.autoencoders import (
    ConvSparse,
    KSparse,
    SparseAutoencoder,
    train_autoencoder,
)
from netinv_lightning.interpretability.figures.charts import draw_roc_curves
from netinv_lightning.interpretability.figures.units import (
    draw_unit_frequencies,
    draw_unit_images,
    draw_unit_overlap,
)
from netinv_lightning.interpretability.study_input import StudyInput, StudyResult
from netinv_lightning.metric_names import interpretation

SHOWN_UNITS = 10
SHOWN_CLASSES = 10
SHOWN_IMAGES = 8
MAP_SAMPLES = 1000
"""Number of samples per origin for `ConvSparse`, which is the slowest part because maps are large.
Half of the samples are for training."""
MAP_UNITS = 128


def analyse_autoencoders(inputs: StudyInput) -> StudyResult:
    """Train autoencoders on halves of the samples, and measure and draw the units on the rest."""
    result, seed = StudyResult(), inputs.seed
    fitted, held_out = _split(inputs)
    features_nD = torch.cat([features.features_nD for features in fitted.values()])
    shared = _trained(inputs, features_nD)
    held_out_features = {name: features.features_nD for name, features in held_out.items()}
    codes = {name: units.unit_activations(shared, f_nD) for name, f_nD in held_out_features.items()}
    result.metrics |= _reconstructions("sparse", shared, features_nD, held_out_features)
    inverted = held_out["inverted"]
    selective = units.selectivity(codes["inverted"], inverted.predicted_n, inputs.N, seed)
    result.metrics |= _selectivity_metrics(selective)

    origins = {
        name: units.Group(codes[name], features.predicted_n) for name, features in held_out.items()
    }
    generators = _generator_groups(codes["inverted"], inverted)
    _draw_frequencies(inputs, result, origins | generators)
    _compare_origins(inputs, result, origins)
    result.metrics |= _compare_generators(inputs, generators)
    _draw_images(inputs, result, codes, held_out, selective)
    if inputs.real is not None:
        _detect_inverted(inputs, result, fitted, held_out, shared)
    if inputs.maps is not None:
        result.metrics |= _reconstruct_maps(inputs, fitted, held_out)
    return result


def _split(inputs: StudyInput) -> tuple[dict[str, FeatureSet], dict[str, FeatureSet]]:
    """Return samples to fit on and held-out samples, by origin."""
    inverted_fit, inverted_held_out = inputs.inverted.halves(inputs.seed)
    fitted, held_out = {"inverted": inverted_fit}, {"inverted": inverted_held_out}
    if inputs.real is not None:
        training, test = inputs.real
        fitted["training"], training_held_out = training.halves(inputs.seed)
        held_out = {"training": training_held_out, "test": test, **held_out}
    return fitted, held_out


def _trained(inputs: StudyInput, features_nD: Tensor) -> KSparse:
    options = inputs.options
    model = KSparse(
        features_nD.shape[1],
        units=options.sparse_units,
        active=options.sparse_active,
        seed=inputs.seed,
    )
    train_autoencoder(model, features_nD, inputs.seed)
    return model


def _reconstructions(
    kind: str, model: SparseAutoencoder, fitted: Tensor, held_out: dict[str, Tensor]
) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for origin, x in held_out.items():
        measures = units.reconstruction(model, fitted, x)
        metrics |= {
            interpretation(kind, "unexplained", origin): measures.unexplained,
            interpretation(kind, "unexplained_pca", origin): measures.unexplained_pca,
            interpretation(kind, "active", origin): measures.active,
            interpretation(kind, "dead", origin): measures.dead,
        }
    return metrics


def _selectivity_metrics(selective: units.Selectivity) -> dict[str, float]:
    live_M = selective.preferred_M >= 0
    selectivity_M = selective.selectivity_M[live_M]
    above_M = selectivity_M > selective.shuffled_M[live_M]
    return {
        interpretation("sparse", "selectivity"): float(selectivity_M.mean()),
        interpretation("sparse", "selective_units"): float(above_M.float().mean()),
    }


def _generator_groups(codes_nM: Tensor, inverted: FeatureSet) -> dict[str, units.Group]:
    """Return one group per generator if there are several, else none."""
    generator_n = inverted.generator_n
    numbers = [] if generator_n is None else generator_n.unique().tolist()
    if generator_n is None or len(numbers) < 2:
        return {}
    predicted_n = inverted.predicted_n
    return {
        f"generator {g}": units.Group(codes_nM[generator_n == g], predicted_n[generator_n == g])
        for g in numbers
    }


def _draw_frequencies(
    inputs: StudyInput, result: StudyResult, groups: dict[str, units.Group]
) -> None:
    """Draw the activation frequency of each unit by group, and by class for two of the groups."""
    first, last = next(iter(groups)), "inverted" if "training" in groups else list(groups)[-1]
    by_group = {name: group.activations_nM for name, group in groups.items()}
    by_class = {
        f"{short(inputs.class_names[label])}, {name}": groups[name].activations_nM[
            groups[name].class_n == label
        ]
        for label in range(min(inputs.N, SHOWN_CLASSES))
        for name in dict.fromkeys((first, last))
    }
    by_class = {name: codes_nM for name, codes_nM in by_class.items() if len(codes_nM)}
    figures = {
        "sparse_units": (by_group, [first, last], "origin"),
        "sparse_units_of_classes": (by_class, list(by_class), "class and origin"),
    }
    for stem, (activations, order, rows) in figures.items():
        if len(set(order)) > 1:
            path = draw_unit_frequencies(
                units.firing(activations).frequency_GM,
                group_names=list(activations),
                path=inputs.figures / stem,
                title=f"{inputs.name}: activation of sparse units",
                order=(order[0], order[-1]),
            )
            result.figures.append((path, f"activation frequency of each unit by {rows}"))


def _compare_origins(
    inputs: StudyInput, result: StudyResult, groups: dict[str, units.Group]
) -> None:
    """Compare the active units of a class between origins; two halves of one are the control."""
    overlap = units.overlap(groups, inputs.N, inputs.seed)
    reference, *others = groups
    result.metrics |= {
        interpretation("overlap", f"{reference}_halves"): float(overlap.mean_GG[0, 0])
    }
    for other, value in zip(others, overlap.mean_GG[0, 1:].tolist(), strict=True):
        result.metrics[interpretation("overlap", f"{reference}_{other}")] = value
    if others:
        path = draw_unit_overlap(
            overlap.jaccard_NGG[:, 0, 1:].T,
            group_names=others,
            control_N=overlap.jaccard_NGG[:, 0, 0],
            class_names=inputs.class_names,
            path=inputs.figures / "sparse_overlap",
            title=f"{inputs.name}: active units in common with {reference} data",
        )
        caption = f"Jaccard overlap of the active units of a class with those of {reference} data"
        result.figures.append((path, caption))


def _compare_generators(inputs: StudyInput, groups: dict[str, units.Group]) -> dict[str, float]:
    """Compare the active units of different generators within a class."""
    if not groups:
        return {}
    mean_GG = units.overlap(groups, inputs.N, inputs.seed).mean_GG
    apart = ~torch.eye(len(groups), dtype=torch.bool)
    return {
        interpretation("overlap", "between_generators"): float(mean_GG[apart].mean()),
        interpretation("overlap", "generator_halves"): float(mean_GG.diagonal().mean()),
    }


def _draw_images(
    inputs: StudyInput,
    result: StudyResult,
    codes: dict[str, Tensor],
    held_out: dict[str, FeatureSet],
    selective: units.Selectivity,
) -> None:
    """Draw, for each of the most selective units, the images with its highest activations.

    Only units that are active for at least 1 % of the inverted samples are considered.
    """
    frequency_M = (codes["inverted"] > 0).float().mean(dim=0)
    score_M = selective.selectivity_M.nan_to_num(-1).where(frequency_M >= 0.01, -1.0)
    chosen_U = _best_per_class(score_M, selective.preferred_M)
    if not len(chosen_U):
        return

    def top_images(origin: str) -> Tensor:
        index_UK = units.top_activating(codes[origin], chosen_U, SHOWN_IMAGES)
        images = held_out[origin].images_nCHW[index_UK.clamp(min=0)]
        # White if a unit is active for fewer images.
        return images.where((index_UK >= 0)[:, :, None, None, None], 1.0)

    path = draw_unit_images(
        top_images("inverted"),
        units=chosen_U.tolist(),
        selectivity=selective.selectivity_M[chosen_U].tolist(),
        preferred=[inputs.class_names[label] for label in selective.preferred_M[chosen_U].tolist()],
        path=inputs.figures / "sparse_images",
        title=f"{inputs.name}: images with the highest unit activations",
        real_UKCHW=top_images("test") if "test" in held_out else None,
    )
    result.figures.append((path, "images that activate each unit most"))


def _best_per_class(score_M: Tensor, preferred_M: Tensor) -> Tensor:
    """Return the unit with the highest score for each of the first classes that have one."""
    best = [
        int(score_M.where(preferred_M == label, -2.0).argmax())
        for label in preferred_M[score_M > 0].unique()[:SHOWN_UNITS]
    ]
    return torch.tensor(best, dtype=torch.long)


def _detect_inverted(
    inputs: StudyInput,
    result: StudyResult,
    fitted: dict[str, FeatureSet],
    held_out: dict[str, FeatureSet],
    shared: KSparse,
) -> None:
    """Separate inverted from real samples by their autoencoder activations."""

    def samples(features: FeatureSet) -> Samples:
        return Samples(features.features_nD, features.predicted_n)

    detectors = detect(
        training_fit=samples(fitted["training"]),
        training_held=samples(held_out["training"]),
        test=samples(held_out["test"]),
        inverted_fit=samples(fitted["inverted"]),
        inverted_held=samples(held_out["inverted"]),
        real=_trained(inputs, fitted["training"].features_nD),
        shared=shared,
        num_classes=inputs.N,
        seed=inputs.seed,
    )
    for name, detector in detectors.items():
        result.metrics |= {
            interpretation("anomaly", name, "auc"): detector.inverted.auc,
            interpretation("anomaly", name, "auc_low"): detector.inverted.low,
            interpretation("anomaly", name, "auc_high"): detector.inverted.high,
            interpretation("anomaly", name, "auc_test_against_training"): detector.control.auc,
        }
    path = draw_roc_curves(
        {name.replace("_", ", "): detector.inverted for name, detector in detectors.items()},
        path=inputs.figures / "anomaly",
        title=f"{inputs.name}: inverted against real samples",
        controls=[name.replace("_", ", ") for name in CONTROLS.values()],
    )
    result.figures.append(
        (path, "ROC curves of scores that separate inverted from real test samples")
    )


def _reconstruct_maps(
    inputs: StudyInput, fitted: dict[str, FeatureSet], held_out: dict[str, FeatureSet]
) -> dict[str, float]:
    """Train and measure the convolutional autoencoder on the maps of an earlier layer."""
    assert inputs.maps is not None
    share = MAP_SAMPLES // 2
    maps_fit = torch.cat(
        [inputs.maps(features.images_nCHW[:share]) for features in fitted.values()]
    )
    maps_held_out = {
        origin: inputs.maps(features.images_nCHW[:share]) for origin, features in held_out.items()
    }
    active = inputs.options.map_active
    model = ConvSparse(maps_fit.shape[1], MAP_UNITS, inputs.seed, active)
    train_autoencoder(model, maps_fit, inputs.seed)
    return _reconstructions("conv_sparse", model, maps_fit, maps_held_out)
