"""`method=nullspace` on a linear classifier: the step is the pseudo-inverse, moves keep the logits.

Shape suffixes: B batch, K outputs, N classes, D pixels, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from omegaconf import DictConfig

from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.build import build_inversion
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.label_sets import LabelSets
from netinv_lightning.inversion.methods.nullspace import (
    NullSpaceInversion,
    bounded_step,
    least_norm_step,
    null_space_part,
)
from tests.inversion.methods.linear_classifiers import SIDE, drawn, linear_classifier

Compose = Callable[..., DictConfig]


def inversion(scale: float = 0.2, **options: float | None) -> NullSpaceInversion:
    return NullSpaceInversion(
        Conditioning(3, SIDE, "label"), linear_classifier(scale=scale), **options
    )  # type: ignore[arg-type]


def test_the_step_is_the_pseudo_inverse() -> None:
    J_BKD, r_BK = torch.randn(2, 3, 9), torch.randn(2, 3)
    expected_BD = (torch.linalg.pinv(J_BKD) @ r_BK[:, :, None])[:, :, 0]
    torch.testing.assert_close(least_norm_step(J_BKD, r_BK), expected_BD, rtol=1e-4, atol=1e-5)


def test_moves_in_the_null_space_change_no_output() -> None:
    J_BKD, u_BD = torch.randn(2, 3, 9), torch.randn(2, 9)
    part_BD = null_space_part(J_BKD, u_BD)
    assert torch.einsum("bkd,bd->bk", J_BKD, part_BD).abs().max() < 1e-4
    assert part_BD.norm() > 0.5 * u_BD.norm()  # 6 of 9 dimensions remain
    torch.testing.assert_close(null_space_part(J_BKD, part_BD), part_BD, rtol=1e-3, atol=1e-4)


def test_a_bounded_step_solves_with_the_pixels_that_can_follow() -> None:
    x_BD = torch.tensor([[1.0, 0.5, 0.5]])
    J_BKD, r_BK = torch.tensor([[[2.0, 1.0, 0.0]]]), torch.tensor([[0.3]])
    # The unbounded step (0.12, 0.06, 0) would raise the first pixel above 1.
    expected_BD = torch.tensor([[0.0, 0.3, 0.0]])
    torch.testing.assert_close(bounded_step(J_BKD, r_BK, x_BD), expected_BD, rtol=1e-4, atol=1e-5)


def test_one_step_solves_a_linear_classifier() -> None:
    """Compare one step from the grey image with the pseudo-inverse of the differences of rows."""
    method = NullSpaceInversion(
        Conditioning(3, SIDE), linear_classifier(scale=0.2),
        steps=1, null_std=0.0, init_std=0.0, confidence=None, largest_step=1.0,
    )  # fmt: skip
    wanted_BN = torch.tensor([[0.4, 0.3, 0.3], [0.35, 0.4, 0.25], [0.25, 0.25, 0.5]])
    torch.manual_seed(0)
    x_BCHW = method.draw(method.conditioning.of_vectors(wanted_BN))
    layer = method.classifier.network[1]
    for label, (image_CHW, wanted_N) in enumerate(zip(x_BCHW, wanted_BN, strict=True)):
        others = [k for k in range(3) if k != label]
        D_KD = layer.weight[others] - layer.weight[label]  # the logits of the grey image are 0
        expected_D = 0.5 + torch.linalg.pinv(D_KD) @ (wanted_N[others] / wanted_N[label]).log()
        assert 0 < expected_D.min() < expected_D.max() < 1
        torch.testing.assert_close(image_CHW.flatten(), expected_D, rtol=0, atol=1e-3)
    torch.testing.assert_close(
        method.classifier(x_BCHW).softmax(dim=1), wanted_BN, rtol=0, atol=1e-3
    )


OPTIONS = {"scale": 1.0, "steps": 12, "confidence": 0.9}


def test_images_differ_and_have_the_prescribed_scores() -> None:
    method = inversion(**OPTIONS)
    x_BCHW = drawn(method, [1, 1, 2])
    q_BN = method.classifier(x_BCHW).softmax(dim=1)
    torch.testing.assert_close(q_BN[[0, 1, 2], [1, 1, 2]], torch.full((3,), 0.9), rtol=0, atol=5e-3)
    assert (x_BCHW[0] - x_BCHW[1]).square().mean().sqrt() > 0.1
    assert 0 <= x_BCHW.min() <= x_BCHW.max() <= 1
    assert torch.equal(drawn(inversion(**OPTIONS), [1, 1, 2]), x_BCHW)
    assert not torch.equal(drawn(inversion(**OPTIONS), [1, 1, 2], seed=1), x_BCHW)
    # Three images in 12 steps; each step tries four shares, and has one output
    assert (method.cost().forwards, method.cost().backwards) == (36 * 5, 36)
    assert method.cost().image_steps == 36


def test_the_scores_of_the_condition_are_met() -> None:
    method = NullSpaceInversion(
        Conditioning(3, SIDE), linear_classifier(), steps=10, confidence=None, micro_batch=3
    )
    condition = method.conditioning.of_vectors(torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]))
    torch.manual_seed(0)
    q_BN = method.classifier(method.draw(condition)).softmax(dim=1)
    torch.testing.assert_close(q_BN, condition.target_BN, rtol=0, atol=1e-3)


@pytest.mark.parametrize("sides", [(9,), ()])
def test_signals_tables_and_label_sets(sides: tuple[int, ...]) -> None:
    classifier = linear_classifier(sides=sides, scale=2.0, output_kind="multi_label")
    method = NullSpaceInversion(LabelSets(3, sides, "vector"), classifier, steps=15)
    set_BN = torch.tensor([[True, False, True], [False, True, False]])
    torch.manual_seed(0)
    x_BC = method.draw(method.conditioning.of_sets(set_BN))  # type: ignore[attr-defined]
    assert x_BC.shape == (2, *classifier.spec.shape)
    assert torch.equal(classifier(x_BC) > 0, set_BN)


def test_random_images_have_perfect_scores_and_do_not_transfer() -> None:
    classifier = load_zoo("mnist_cnn")
    method = NullSpaceInversion(Conditioning(10, 28), classifier)
    x_BCHW = drawn(method, [3, 8, 9])
    label_B = torch.tensor([3, 8, 9])
    score_B = classifier(x_BCHW).softmax(dim=1).gather(1, label_B[:, None])
    assert score_B.min() > 0.9
    assert not torch.equal(load_zoo("mnist_mlp")(x_BCHW).argmax(dim=1), label_B)


def test_one_hot_features_are_refused(compose: Compose) -> None:
    cfg = compose(
        "method=nullspace", "classifier=zoo", "classifier.zoo=mnist_mlp", "method.steps=2"
    )
    assert isinstance(build_inversion(cfg), NullSpaceInversion)
    classifier = linear_classifier(sides=())
    object.__setattr__(classifier.spec, "groups", ((0, 1),))
    with pytest.raises(InputError, match=r"^method=nullspace: .*one-hot features"):
        NullSpaceInversion(Conditioning(3, ()), classifier)
