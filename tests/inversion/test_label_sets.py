"""Labels that do not exclude each other: sets of labels, binary cross-entropy, exact agreement.

Shape suffixes: B batch, N labels, S side of the matrix.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import netinv_lightning
from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.verifiers import check_verifier
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.build import build_inversion
from netinv_lightning.inversion.label_sets import LabelSets, condition_of, sets_agree
from netinv_lightning.inversion.losses import binary_cross_entropy
from netinv_lightning.metrics.accuracy import SetAccuracy
from tests.conftest import FEW_STEPS

SPEC = DataSpec("npz", 4, 1, 28, (0.0,), (1.0,), tuple("abcd"))


def quarters(*further: nn.Module) -> nn.Sequential:
    """Label k holds if the k-th quarter of the image is bright."""
    network = nn.Sequential(nn.AvgPool2d(14), nn.Flatten(), nn.Linear(4, 4), *further)
    with torch.no_grad():
        network[2].weight.copy_(16 * torch.eye(4))
        network[2].bias.fill_(-8)
    return network


def test_sets_have_a_first_label_and_others() -> None:
    torch.manual_seed(0)
    condition = LabelSets(6, 28).sample(4000)
    target_BN, label_B = condition.target_BN, condition.label_B
    assert bool((target_BN.gather(1, label_B[:, None]) == 1).all())
    assert set(target_BN.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(condition.vector_BN, target_BN)
    shares_N = torch.bincount(label_B, minlength=6) / 4000
    assert bool(((shares_N - 1 / 6).abs() < 0.02).all())
    # Of 6 normal numbers those above the 0.8 quantile, and at least one: 1.2 + 0.8 ** 6.
    assert target_BN.sum(dim=1).mean().item() == pytest.approx(1.462, abs=0.05)
    hot = LabelSets(6, 28).sample(50, hot=True)
    assert torch.equal(hot.target_BN, F.one_hot(hot.label_B, 6).float())


def test_the_matrix_has_the_row_and_column_of_each_label() -> None:
    condition = LabelSets(4, 28).of_sets(torch.tensor([[True, False, True, False]]))
    assert condition.label_B.tolist() == [0]
    assert condition.matrix_BMSS is not None
    assert condition.matrix_BMSS[0, 0].tolist() == [
        [1, 1, 1, 1],
        [1, 0, 1, 0],
        [1, 1, 1, 1],
        [1, 0, 1, 0],
    ]


def test_lists_of_labels_become_sets() -> None:
    sets = LabelSets(4, 28)
    assert condition_of(sets, [[1, 3], []], torch.device("cpu")).target_BN.tolist() == [
        [0, 1, 0, 1],
        [1, 0, 0, 0],
    ]
    assert condition_of(sets, [2], torch.device("cpu")).target_BN.tolist() == [[0, 0, 1, 0]]
    with pytest.raises(InputError, match="conditioning=label: encodes one label"):
        LabelSets(4, 28, mode="label")


def test_binary_cross_entropy_is_summed_over_labels() -> None:
    logits_BN, target_BN = torch.randn(5, 3), torch.randint(2, (5, 3)).float()
    p_BN = logits_BN.double().sigmoid()
    expected = -(target_BN * p_BN.log() + (1 - target_BN) * (1 - p_BN).log()).sum() / 5
    assert binary_cross_entropy(logits_BN, target_BN).item() == pytest.approx(expected.item())
    smooth = binary_cross_entropy(torch.zeros(1, 2), torch.ones(1, 2), label_smoothing=0.5)
    assert smooth.item() == pytest.approx(2 * 0.693147, abs=1e-5)


def test_accuracy_counts_exact_sets() -> None:
    target_BN = torch.tensor([[1.0, 0, 1], [0, 1, 0], [1, 1, 0]])
    logits_BN = torch.tensor([[2.0, -1, 3], [4, 1, -1], [1, 2, -3]])
    assert sets_agree(logits_BN, target_BN).tolist() == [True, False, True]
    metric = SetAccuracy(3)
    metric.update(logits_BN, torch.tensor([0, 1, 1]), target_BN)
    found = metric.compute()
    assert found["accuracy"].item() == pytest.approx(2 / 3)
    assert found["label_accuracy"].item() == pytest.approx(8 / 9)
    assert found["confusion_NN"].tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert found["kl"].item() == pytest.approx(binary_cross_entropy(logits_BN, target_BN).item())


@pytest.mark.parametrize("further", [(), (nn.Sigmoid(),)])
def test_outputs_of_several_labels_become_logits(further: tuple[nn.Module, ...]) -> None:
    network = quarters(*further)
    frozen = FrozenClassifier(network, SPEC, output_kind="multi_label")
    assert frozen.multi_label
    assert frozen.record()["multi_label"] is True
    x_BCHW = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(frozen(x_BCHW), quarters()(x_BCHW), rtol=1e-4, atol=1e-4)
    assert "conditioned on sets of labels" in frozen.output.describe("Net")


def test_a_network_of_several_labels_is_inverted() -> None:
    overrides = [
        *FEW_STEPS,
        "application.steps=150",
        "application.lr=0.01",
        "application.batch_size=32",
        "application.eval_samples=300",
        "application.log_every=50",
        "application.checkpoint_every=1000",
    ]
    result = netinv_lightning.invert(
        quarters(nn.Sigmoid()), 4, 1, 28, overrides=overrides, output_kind="multi_label"
    )
    assert result.metrics[names.INVERSION_ACCURACY] > 0.9
    assert result.metrics[names.INVERSION_LABEL_ACCURACY] > 0.97
    images_BCHW = result.sample([[0, 3], [1]], seed=0)
    bright_BN = quarters()(images_BCHW) > 0
    assert bright_BN.tolist() == [[True, False, False, True], [False, True, False, False]]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["loss=reconstruction"], r"loss.kl_perturbed: needs one label per image, but this"),
        (["measure=full"], "measure=full: needs one label per image"),
        (["method=kkt"], "method=kkt: needs one label per image"),
        (["conditioning=label"], "conditioning=label: encodes one label"),
    ],
)
def test_what_needs_one_label_is_refused(overrides: list[str], said: str) -> None:
    frozen = FrozenClassifier(quarters(), SPEC, output_kind="multi_label")
    with pytest.raises(InputError, match=said):
        build_inversion(netinv_lightning.compose([*FEW_STEPS, *overrides]), frozen)


def test_a_verifier_has_the_same_kind_of_labels() -> None:
    of: Any = {
        kind: FrozenClassifier(quarters(), SPEC, output_kind=kind)
        for kind in ("logits", "multi_label")
    }
    with torch.no_grad():
        of["logits"].network[2].bias += 1
    with pytest.raises(
        InputError, match="v: must be multi-label, like the classifier that is inverted"
    ):
        check_verifier("v", of["logits"], of["multi_label"])


def test_one_number_per_image_has_no_sets() -> None:
    single = nn.Sequential(nn.Flatten(), nn.Linear(784, 1))
    spec = DataSpec("npz", 2, 1, 28, (0.0,), (1.0,), ("a", "b"))
    with pytest.raises(InputError, match="it must return one per label"):
        FrozenClassifier(single, spec, output_kind="multi_label")
