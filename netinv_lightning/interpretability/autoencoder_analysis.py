"""Which units of a sparse autoencoder fire for inverted samples, for real ones and for each generator (A4-4, A4-5, A8-11)."""

from __future__ import annotations

import torch
from torch import Tensor

from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.figures.style import short
from netinv_lightning.interpretability import activations as units
from netinv_lightning.interpretability.anomaly import CONTROLS, Samples, detect
from netinv_lightning.interpretability.autoencoders import (
    ConvSparse,
    KSparse,
    SparseAutoencoder,
    train_autoencoder,
)
from netinv_lightning.interpretability.figures import (
    class_overlap,
    separation_curves,
    unit_activations,
    unit_images,
)
from netinv_lightning.interpretability.study_input import StudyInput, StudyResult
from netinv_lightning.metric_names import interpretation

SHOWN_UNITS = 10
SHOWN_CLASSES = 10
SHOWN_IMAGES = 8
MAP_SAMPLES = 1000
"""Of each origin, half to train on: maps are large, and the convolutional autoencoder is the slowest part."""
MAP_UNITS = 128


def analyse_autoencoders(inputs: StudyInput) -> StudyResult:
    result, seed = StudyResult(), inputs.seed
    inverted_fit, inverted_held = inputs.inverted.halves(seed)
    fitted, held = {"inverted": inverted_fit}, {"inverted": inverted_held}
    if inputs.real is not None:
        training, test = inputs.real
        fitted["training"], training_held = training.halves(seed)
        held = {"training": training_held, "test": test, "inverted": inverted_held}
    features_nD = torch.cat([features.features_nD for features in fitted.values()])
    shared = _trained(inputs, features_nD)
    codes = {
        name: units.unit_activations(shared, features.features_nD)
        for name, features in held.items()
    }
    _reconstructions(
        result,
        "sparse",
        shared,
        features_nD,
        {name: features.features_nD for name, features in held.items()},
    )
    selective = units.selectivity(codes["inverted"], inverted_held.predicted_n, inputs.N, seed)
    live_M = selective.preferred_M >= 0
    result.metrics[interpretation("sparse", "selectivity")] = float(
        selective.selectivity_M[live_M].mean()
    )
    above_M = selective.selectivity_M[live_M] > selective.shuffled_M[live_M]
    result.metrics[interpretation("sparse", "selective_units")] = float(above_M.float().mean())

    origins = {
        name: units.Group(codes[name], features.predicted_n) for name, features in held.items()
    }
    generators = _of_generators(codes["inverted"], inverted_held)
    _draw_firing(inputs, result, origins | generators)
    _compare_origins(inputs, result, origins)
    _compare_generators(inputs, result, generators)
    _show_units(inputs, result, codes, held, selective)
    if inputs.real is not None:
        _tell_apart(inputs, result, fitted, held, shared)
    if inputs.maps is not None:
        _study_maps(inputs, result, fitted, held)
    return result


def _trained(inputs: StudyInput, features_nD: Tensor) -> KSparse:
    options = inputs.options
    model = KSparse(features_nD.shape[1], options.sparse_units, options.sparse_active, inputs.seed)
    train_autoencoder(model, features_nD, inputs.seed)
    return model


def _reconstructions(
    result: StudyResult,
    kind: str,
    model: SparseAutoencoder,
    fitted: Tensor,
    held: dict[str, Tensor],
) -> None:
    for origin, x in held.items():
        told = units.reconstruction(model, fitted, x)
        result.metrics |= {
            interpretation(kind, "unexplained", origin): told.unexplained,
            interpretation(kind, "unexplained_pca", origin): told.unexplained_pca,
            interpretation(kind, "active", origin): told.active,
            interpretation(kind, "dead", origin): told.dead,
        }


def _of_generators(codes_nM: Tensor, inverted: FeatureSet) -> dict[str, units.Group]:
    """A group for each generator, where there are several."""
    generator_n = inverted.generator_n
    numbers = [] if generator_n is None else generator_n.unique().tolist()
    if generator_n is None or len(numbers) < 2:
        return {}
    predicted_n = inverted.predicted_n
    return {
        f"generator {g}": units.Group(codes_nM[generator_n == g], predicted_n[generator_n == g])
        for g in numbers
    }


def _draw_firing(inputs: StudyInput, result: StudyResult, groups: dict[str, units.Group]) -> None:
    """How often each unit fires for each origin and generator, and for each class of the first and the last of them."""
    name, first, last = (
        inputs.name,
        next(iter(groups)),
        "inverted" if "training" in groups else list(groups)[-1],
    )
    if first != last:
        fires = units.firing({group: members.activations_nM for group, members in groups.items()})
        path = unit_activations(
            fires.frequency_GM,
            list(groups),
            inputs.figures / "sparse_units",
            f"{name}: firing of sparse units",
            (first, last),
        )
        result.figures.append((path, "how often each unit fires for samples of each origin"))
    of_classes = {
        f"{short(inputs.class_names[label])}, {group}": groups[group].activations_nM[
            groups[group].class_n == label
        ]
        for label in range(min(inputs.N, SHOWN_CLASSES))
        for group in dict.fromkeys((first, last))
    }
    present = {told: codes_nM for told, codes_nM in of_classes.items() if len(codes_nM)}
    if len(present) > 1:
        fires, ends = units.firing(present), (next(iter(present)), list(present)[-1])
        path = unit_activations(
            fires.frequency_GM,
            list(present),
            inputs.figures / "sparse_units_of_classes",
            f"{name}: firing of sparse units",
            ends,
        )
        result.figures.append(
            (path, "how often each unit fires for samples of each class and origin")
        )


def _compare_origins(
    inputs: StudyInput, result: StudyResult, groups: dict[str, units.Group]
) -> None:
    """Whether the same units fire for a class in training data, test data and inverted images; beside two halves of one origin."""
    overlap = units.overlap(groups, inputs.N, inputs.seed)
    reference, *others = groups
    result.metrics[interpretation("overlap", f"{reference}_halves")] = float(overlap.mean_GG[0, 0])
    for other, value in zip(others, overlap.mean_GG[0, 1:].tolist(), strict=True):
        result.metrics[interpretation("overlap", f"{reference}_{other}")] = value
    if others:
        path = class_overlap(
            overlap.jaccard_NGG[:, 0, 1:].T, others, overlap.jaccard_NGG[:, 0, 0], inputs.class_names,
            inputs.figures / "sparse_overlap", f"{inputs.name}: units that fire for {reference} data too",
        )  # fmt: skip
        result.figures.append(
            (path, f"Jaccard overlap of the units that fire for a class, with {reference} data")
        )


def _compare_generators(
    inputs: StudyInput, result: StudyResult, groups: dict[str, units.Group]
) -> None:
    """The same of the images of different generators (S2 section 5.1: "distinct feature activations ... within the same class")."""
    if groups:
        mean_GG = units.overlap(groups, inputs.N, inputs.seed).mean_GG
        apart = ~torch.eye(len(groups), dtype=torch.bool)
        result.metrics[interpretation("overlap", "between_generators")] = float(
            mean_GG[apart].mean()
        )
        result.metrics[interpretation("overlap", "generator_halves")] = float(
            mean_GG.diagonal().mean()
        )


def _show_units(
    inputs: StudyInput,
    result: StudyResult,
    codes: dict[str, Tensor],
    held: dict[str, FeatureSet],
    selective: units.Selectivity,
) -> None:
    """The images that excite the most selective units most, of those that fire for a hundredth of the samples or more."""
    frequency_M = (codes["inverted"] > 0).float().mean(dim=0)
    score_M = selective.selectivity_M.nan_to_num(-1).where(frequency_M >= 0.01, -1.0)
    chosen_U = _one_a_class(score_M, selective.preferred_M)
    if not len(chosen_U):
        return

    def tops(origin: str) -> Tensor:
        index_UK = units.top_activating(codes[origin], chosen_U, SHOWN_IMAGES)
        images = held[origin].images_nCHW[index_UK.clamp(min=0)]
        return images.where(
            (index_UK >= 0)[:, :, None, None, None], 1.0
        )  # white where a unit fires for no more

    path = unit_images(
        tops("inverted"), chosen_U.tolist(), selective.selectivity_M[chosen_U].tolist(),
        [inputs.class_names[label] for label in selective.preferred_M[chosen_U].tolist()],
        inputs.figures / "sparse_images", f"{inputs.name}: what excites sparse units most", tops("test") if "test" in held else None,
    )  # fmt: skip
    result.figures.append((path, "images that excite each unit most"))


def _one_a_class(score_M: Tensor, preferred_M: Tensor) -> Tensor:
    """The best unit of each of the first classes that have one."""
    best = []
    for label in preferred_M[score_M > 0].unique()[:SHOWN_UNITS]:
        best.append(int(score_M.where(preferred_M == label, -2.0).argmax()))
    return torch.tensor(best, dtype=torch.long)


def _tell_apart(
    inputs: StudyInput,
    result: StudyResult,
    fitted: dict[str, FeatureSet],
    held: dict[str, FeatureSet],
    shared: KSparse,
) -> None:
    """Inverted against real samples by what the autoencoders make of them."""
    real = _trained(inputs, fitted["training"].features_nD)

    def samples(features: FeatureSet) -> Samples:
        return Samples(features.features_nD, features.predicted_n)

    detectors = detect(
        samples(fitted["training"]), samples(held["training"]), samples(held["test"]), samples(fitted["inverted"]),
        samples(held["inverted"]), real, shared, inputs.N, inputs.seed,
    )  # fmt: skip
    for name, detector in detectors.items():
        told = detector.inverted
        result.metrics |= {
            interpretation("anomaly", name, "auc"): told.auc,
            interpretation("anomaly", name, "auc_low"): told.low,
            interpretation("anomaly", name, "auc_high"): told.high,
            interpretation("anomaly", name, "auc_test_against_training"): detector.control.auc,
        }
    curves = {
        name.replace("_", ", "): (
            told.false_positive_R,
            told.true_positive_R,
            told.auc,
            told.low,
            told.high,
        )
        for name, told in ((name, detector.inverted) for name, detector in detectors.items())
    }
    path = separation_curves(
        curves,
        inputs.figures / "anomaly",
        f"{inputs.name}: inverted against real",
        [name.replace("_", ", ") for name in CONTROLS.values()],
    )
    result.figures.append((path, "ROC curves of telling inverted from real test samples"))


def _study_maps(
    inputs: StudyInput,
    result: StudyResult,
    fitted: dict[str, FeatureSet],
    held: dict[str, FeatureSet],
) -> None:
    """The convolutional autoencoder over the maps of an earlier layer."""
    assert inputs.maps is not None
    share = MAP_SAMPLES // 2
    maps_fit = torch.cat(
        [inputs.maps(features.images_nCHW[:share]) for features in fitted.values()]
    )
    maps_held = {
        origin: inputs.maps(features.images_nCHW[:share]) for origin, features in held.items()
    }
    model = ConvSparse(maps_fit.shape[1], MAP_UNITS, inputs.seed)
    train_autoencoder(model, maps_fit, inputs.seed)
    _reconstructions(result, "conv_sparse", model, maps_fit, maps_held)
