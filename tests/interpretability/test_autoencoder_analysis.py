"""Active units of a sparse autoencoder, compared between the generators of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.config.schema import InterpretConfig
from netinv_lightning.interpretability.autoencoder_analysis import (
    _compare_generators,
    _generator_groups,
)
from netinv_lightning.interpretability.study_input import StudyInput
from netinv_lightning.metric_names import interpretation

BETWEEN = interpretation("overlap", "between_generators")
HALVES = interpretation("overlap", "generator_halves")


def study_of(generator_n: Tensor | None, images: int = 120) -> StudyInput:
    """Images of two classes in turn, made by the given generators."""
    inverted = FeatureSet(
        images_nCHW=torch.zeros(images, 1, 2, 2),
        logits_nN=torch.eye(2)[torch.arange(images) % 2],
        features_nD=torch.zeros(images, 3),
        generator_n=generator_n,
    )
    return StudyInput(
        name="made up",
        class_names=("even", "odd"),
        options=InterpretConfig(),
        seed=0,
        inverted=inverted,
        training=None,
        test=None,
        head=torch.zeros_like,
        classify=torch.zeros_like,
        maps=None,
        figures=Path("nowhere"),
    )


def compared(generator_n: Tensor | None, codes_nM: Tensor) -> dict[str, float]:
    study = study_of(generator_n, len(codes_nM))
    return _compare_generators(study, _generator_groups(codes_nM, study.inverted))


@pytest.mark.parametrize(
    ("units", "overlap"),
    [([[0, 1, 2], [0, 1, 2]], 1.0), ([[0, 1, 2], [1, 2, 3]], 0.5), ([[0, 1], [2, 3]], 0.0)],
)
def test_generators_are_compared_by_their_active_units(
    units: list[list[int]], overlap: float
) -> None:
    generator_n = torch.arange(2).repeat_interleave(60)
    codes_nM = torch.zeros(120, 4)
    for generator, active in enumerate(units):
        codes_nM[(generator_n == generator).nonzero(), torch.tensor(active)] = 1.0
    found = compared(generator_n, codes_nM)
    assert found == {BETWEEN: pytest.approx(overlap), HALVES: pytest.approx(1.0)}


def test_groups_of_generators_have_their_images_and_classes() -> None:
    generator_n = torch.tensor([0, 2, 2, 0, 2])
    codes_nM = torch.arange(10.0).view(5, 2)
    groups = _generator_groups(codes_nM, study_of(generator_n, 5).inverted)
    assert list(groups) == ["generator 0", "generator 2"]
    assert groups["generator 2"].activations_nM.tolist() == [[2, 3], [4, 5], [8, 9]]
    assert groups["generator 2"].class_n.tolist() == [1, 0, 0]


@pytest.mark.parametrize("generator_n", [None, torch.zeros(120, dtype=torch.long)])
def test_one_generator_is_compared_with_none(generator_n: Tensor | None) -> None:
    assert compared(generator_n, torch.ones(120, 4)) == {}
