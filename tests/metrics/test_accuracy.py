"""Inversion accuracy and class cosine, against hand-worked cases and explicit pairs.

Shape suffixes: B batch, N classes, D features.
"""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics import Metric

from netinv_lightning.inversion import losses
from netinv_lightning.metrics.accuracy import InversionAccuracy
from netinv_lightning.metrics.diversity import ClassCosine

PROPERTY = settings(deadline=None, derandomize=True, max_examples=25)


def accuracy_inputs(batch: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    target_BN = torch.randn(batch, classes, generator=source).softmax(dim=1)
    return 2 * torch.randn(batch, classes, generator=source), target_BN.argmax(dim=1), target_BN


def cosine_inputs(batch: int, classes: int, dim: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(batch, dim, generator=source) + 1, torch.randint(
        classes, (batch,), generator=source
    )


def naive_cosines(f_BD: Tensor, label_B: Tensor) -> tuple[float, float]:
    unit_BD = f_BD.double() / f_BD.double().norm(dim=1, keepdim=True).clamp_min(1e-12)
    pairs = [(i, j) for i in range(len(f_BD)) for j in range(len(f_BD)) if i != j]
    cosines = {pair: (unit_BD[pair[0]] @ unit_BD[pair[1]]).item() for pair in pairs}
    intra = [cosines[i, j] for i, j in pairs if label_B[i] == label_B[j]]
    inter = [cosines[i, j] for i, j in pairs if label_B[i] != label_B[j]]
    return math.fsum(intra) / len(intra), math.fsum(inter) / len(inter)


def assert_equal(first: Metric, second: Metric) -> None:
    one, other = first.compute(), second.compute()
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name])


# InversionAccuracy


def test_accuracy_by_hand() -> None:
    metric = InversionAccuracy(3)
    q_BN = torch.tensor([[0.7, 0.2, 0.1], [0.25, 0.5, 0.25], [0.1, 0.1, 0.8], [0.6, 0.2, 0.2]])
    label_B = torch.tensor([0, 0, 2, 2])
    target_BN = torch.tensor([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0], [0.1, 0.1, 0.8], [0.2, 0.2, 0.6]])
    metric.update(q_BN.log(), label_B, target_BN)
    values = metric.compute()
    assert values["accuracy"].item() == pytest.approx(2 / 4)
    assert values["confidence"].item() == pytest.approx((0.7 + 0.5 + 0.8 + 0.6) / 4, abs=1e-6)
    assert values["margin"].item() == pytest.approx((0.5 + 0.25 + 0.7 + 0.4) / 4, abs=1e-6)
    assert values["kl"].item() == pytest.approx(
        (math.log(4) + 0.2 * math.log(1 / 3) + 0.6 * math.log(3)) / 4, abs=1e-6
    )
    assert values["confusion_NN"].tolist() == [
        [1, 1, 0],
        [0, 0, 0],
        [1, 0, 1],
    ]  # row: conditioning label, column: predicted


@PROPERTY
@given(batch=st.integers(1, 30), classes=st.integers(2, 12), seed=st.integers(0, 10**6))
def test_accuracy_equals_the_direct_computation(batch: int, classes: int, seed: int) -> None:
    logits_BN, label_B, target_BN = accuracy_inputs(batch, classes, seed)
    metric = InversionAccuracy(classes)
    metric.update(logits_BN, label_B, target_BN)
    values = metric.compute()
    predicted_B = logits_BN.argmax(dim=1)
    assert values["accuracy"].item() == pytest.approx(
        (predicted_B == label_B).double().mean().item()
    )
    assert values["confidence"].item() == pytest.approx(
        logits_BN.softmax(dim=1).amax(dim=1).mean().item(), rel=1e-5
    )
    assert values["kl"].item() == pytest.approx(
        losses.kl_divergence(target_BN, logits_BN).item(), rel=1e-4, abs=1e-6
    )
    assert values["confusion_NN"].sum() == batch
    for i in range(batch):
        values["confusion_NN"][label_B[i], predicted_B[i]] -= 1
    assert (values["confusion_NN"] == 0).all()


# ClassCosine


def test_class_cosine_by_hand() -> None:
    metric = ClassCosine(3, 2)
    # Class 0 points right and up; class 2 left and left.
    f_BD = torch.tensor([[2.0, 0.0], [0.0, 1.0], [-3.0, 0.0], [-1.0, 0.0]])
    metric.update(f_BD, torch.tensor([0, 0, 2, 2]))
    values = metric.compute()
    assert values["intra"].item() == pytest.approx((0 + 1) / 2)
    assert values["inter"].item() == pytest.approx((-1 - 1 + 0 + 0) / 4)


@PROPERTY
@given(
    batch=st.integers(5, 25),
    classes=st.integers(2, 4),
    dim=st.integers(1, 8),
    seed=st.integers(0, 10**6),
)
def test_class_cosine_equals_the_mean_over_pairs(
    batch: int, classes: int, dim: int, seed: int
) -> None:
    f_BD, label_B = cosine_inputs(batch, classes, dim, seed)
    label_B[:3] = torch.tensor([0, 0, 1])  # pairs within a class and between classes
    metric = ClassCosine(classes + 1, dim)  # the last class is empty
    metric.update(f_BD, label_B)
    values = metric.compute()
    assert (values["intra"].item(), values["inter"].item()) == pytest.approx(
        naive_cosines(f_BD, label_B), abs=1e-9
    )


def test_class_cosine_of_one_class_equals_the_loss() -> None:
    f_BD, _ = cosine_inputs(9, 1, 5)
    metric = ClassCosine(1, 5)
    metric.update(f_BD, torch.zeros(9, dtype=torch.long))
    assert metric.compute()["intra"].item() == pytest.approx(
        losses.cosine_similarity(f_BD).item(), abs=1e-6
    )


def test_cosine_with_a_zero_feature_is_zero() -> None:
    f_BD, label_B = (
        torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 2.0]]),
        torch.tensor([0, 0, 0, 1]),
    )
    metric = ClassCosine(2, 2)
    metric.update(f_BD, label_B)
    values = metric.compute()
    assert values["intra"].item() == pytest.approx(2 / 6)
    assert values["inter"].item() == pytest.approx(0)


# Batches, and merged states of several devices


def fed(metric: Metric, inputs: tuple[Tensor, ...], batches: list[slice]) -> Metric:
    for batch in batches:
        metric.update(*(tensor[batch] for tensor in inputs))
    return metric


@pytest.mark.parametrize("kind", ["accuracy", "cosine"])
def test_batches_and_merged_states_equal_the_whole(kind: str) -> None:
    inputs: tuple[Tensor, ...] = (
        accuracy_inputs(40, 5) if kind == "accuracy" else cosine_inputs(40, 5, 6)
    )
    fresh: Metric = InversionAccuracy(5) if kind == "accuracy" else ClassCosine(5, 6)
    whole = fed(deepcopy(fresh), inputs, [slice(0, 40)])
    assert_equal(fed(deepcopy(fresh), inputs, [slice(0, 7), slice(7, 8), slice(8, 40)]), whole)
    halves = [fed(deepcopy(fresh), inputs, [part]) for part in (slice(0, 15), slice(15, 40))]
    merged = deepcopy(halves[0])
    merged.merge_state(halves[1])
    assert_equal(merged, whole)
    summed = deepcopy(fresh)
    summed.update(*(tensor[:1] for tensor in inputs))  # overwritten by the merge
    for name, reduce in summed._reductions.items():
        assert callable(reduce)
        setattr(summed, name, reduce(torch.stack([getattr(half, name) for half in halves])))
    assert_equal(summed, whole)
    whole.reset()
    assert all(not getattr(whole, name).any() for name in whole._reductions)
