"""`method=evolution`: the optimum of linear classifiers, labels only, queries and niches.

Shape suffixes: B batch, N classes, C channels, H height, W width, K frequencies, S pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.black_box import BlackBox, BlackBoxClassifier
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.build import check_access
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.cosine_basis import CosineBasis, cosine_matrix
from netinv_lightning.inversion.label_sets import LabelSets
from netinv_lightning.inversion.methods.evolution import EvolutionInversion
from netinv_lightning.run import run
from tests.inversion.methods.linear_classifiers import SIDE, drawn, linear_classifier

Compose = Callable[..., DictConfig]


def inversion(classifier: FrozenClassifier | None = None, **options: Any) -> EvolutionInversion:
    """Return an evolution of pixels without niches."""
    keys = {"basis": "pixel", "niche": 0.0} | options
    classifier = classifier or linear_classifier()
    conditioning = Conditioning(classifier.spec.num_classes, SIDE, "label")
    return EvolutionInversion(conditioning, classifier, **keys)


def test_it_meets_the_optimum_of_a_linear_classifier() -> None:
    """The scores reach a distribution, whose divergence of 0 is the smallest possible."""
    method = EvolutionInversion(
        Conditioning(3, SIDE), linear_classifier(), steps=80, basis="pixel", niche=0.0
    )
    condition = method.conditioning.of_vectors(torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]))
    torch.manual_seed(0)
    q_BN = method.classifier(method.draw(condition)).softmax(dim=1)
    torch.testing.assert_close(q_BN, condition.target_BN, rtol=0, atol=0.01)


def test_a_hard_label_drives_each_pixel_to_the_side_of_its_weight() -> None:
    """The optimum over [0, 1] is 1 where the weight difference is positive, else 0."""
    x_BCHW = drawn(method := inversion(linear_classifier(2, scale=0.5), steps=80), [0, 1])
    weight_ND = method.classifier.network[1].weight
    best_D = (weight_ND[0] > weight_ND[1]).float()
    margin_D = weight_ND[0] - weight_ND[1]
    for image_CHW, sign, optimum_D in zip(x_BCHW, (1, -1), (best_D, 1 - best_D), strict=True):
        reached = float(sign * image_CHW.flatten() @ margin_D)
        assert reached > 0.9 * float(sign * optimum_D @ margin_D)


def test_queries_are_counted_and_no_gradient_is_used() -> None:
    classifier = linear_classifier()
    method = inversion(classifier, steps=4, population=6)
    first = drawn(method, [0, 1, 1])
    cost = method.cost()
    assert (cost.forwards, cost.backwards, cost.image_steps) == (3 * 4 * 6, 0, 12)
    assert not method.classifier(first.requires_grad_()).requires_grad
    with pytest.raises(PermissionError):
        method.classifier.trace(first)
    labels = inversion(classifier, steps=4, population=6, access="labels", copies=5, starts=50)
    drawn(labels, [0, 1, 1])
    assert labels.cost().forwards == 3 * 4 * 6 * 5 + 50


def test_equal_seeds_give_equal_images_and_leave_numpy_alone() -> None:
    state = np.random.get_state()[1]
    first = drawn(inversion(steps=3), [0, 1])
    assert torch.equal(drawn(inversion(steps=3, micro_batch=7), [0, 1]), first)
    assert not torch.equal(drawn(inversion(steps=3), [0, 1], seed=1), first)
    assert np.array_equal(np.random.get_state()[1], state)


def test_labels_alone_lead_away_from_the_boundary() -> None:
    """Noisy copies of the images keep the requested label, although no score is returned."""
    classifier = linear_classifier(2)
    method = inversion(classifier, steps=40, access="labels", starts=200)
    x_BCHW = drawn(method, [0, 0, 1, 1])
    label_B = torch.tensor([0, 0, 1, 1])
    assert torch.equal(classifier(x_BCHW).argmax(dim=1), label_B)
    noise = 0.2 * torch.randn(200, *x_BCHW.shape, generator=torch.Generator().manual_seed(0))
    noisy = classifier((x_BCHW + noise).clamp(0, 1).flatten(0, 1)).argmax(dim=1).view(200, 4)
    assert (noisy == label_B).float().mean() > 0.85


def labels_of(classifier: FrozenClassifier) -> BlackBoxClassifier:
    """Return a black box that answers with the labels of a classifier."""

    def answer(x_BCHW: Any) -> Any:
        return classifier(torch.from_numpy(x_BCHW)).argmax(dim=1).numpy()

    return BlackBoxClassifier(BlackBox(answer, "labels"), classifier.spec)


def test_a_black_box_that_returns_labels_is_inverted() -> None:
    box = labels_of(linear_classifier(2))
    check_access("evolution", box)
    method = inversion(box, steps=15, starts=100)
    assert method.access == "labels"
    assert torch.equal(box(drawn(method, [0, 1])).argmax(dim=1), torch.tensor([0, 1]))
    with pytest.raises(InputError, match=r"^method.access=scores: this classifier returns labels"):
        inversion(box, access="scores")
    with pytest.raises(InputError, match=r"^method=nullspace: .*Choose method=evolution$"):
        check_access("nullspace", box)


def test_niches_keep_images_of_a_class_apart() -> None:
    """Without starts of their own, populations of a class meet, unless they have niches."""

    def distance(niche: float) -> float:
        options = {"steps": 40, "init_std": 0.0, "sigma": 0.3, "niche_distance": 0.3}
        x_BCHW = drawn(inversion(niche=niche, **options), [0] * 3)
        return float(torch.pdist(x_BCHW.flatten(1)).min()) / SIDE

    assert distance(2.0) > 1.3 * distance(0.0)


@pytest.mark.parametrize("access", ["scores", "labels"])
@pytest.mark.parametrize("sides", [(9,), ()])
def test_signals_tables_and_label_sets(sides: tuple[int, ...], access: str) -> None:
    classifier = linear_classifier(sides=sides, output_kind="multi_label")
    method = EvolutionInversion(
        LabelSets(3, sides, "vector"), classifier, steps=30, frequencies=6, access=access
    )
    set_BN = torch.tensor([[True, False, True], [False, True, False]])
    torch.manual_seed(0)
    x_BC = method.draw(method.conditioning.of_sets(set_BN))  # type: ignore[attr-defined]
    assert x_BC.shape == (2, *classifier.spec.shape)
    assert torch.equal(classifier(x_BC) > 0, set_BN)


def test_the_cosine_basis_is_orthonormal_and_scaled_by_frequency() -> None:
    phi_KS = cosine_matrix(9, 5)
    torch.testing.assert_close(phi_KS @ phi_KS.T, torch.eye(5), rtol=0, atol=1e-6)
    assert (phi_KS[0] == phi_KS[0, 0]).all()
    basis = CosineBasis(linear_classifier(sides=(16, 12)), 6)
    assert basis.shape == (1, 6, 6)

    def before_sigmoid(c_nK: Tensor) -> Tensor:
        return basis(c_nK).double().logit()

    one_KK = before_sigmoid(torch.eye(36) * 0.1).flatten(1)
    power_K = one_KK.square().sum(dim=1).view(6, 6)
    assert float(power_K[0, 2] / power_K[0, 4]) == pytest.approx(4.0, rel=1e-3)
    source = torch.Generator().manual_seed(0)
    noise = before_sigmoid(torch.randn(4000, 36, generator=source))
    assert float(noise.var()) == pytest.approx(1.0, rel=0.1)


def test_a_run_reports_its_queries(compose: Compose, job_dir: Any) -> None:
    metrics = run(
        compose(
            "method=evolution", "method.steps=2", "method.population=4", "classifier.zoo=mnist_mlp",
            "application.eval_samples=10", "application.eval_batch_size=10",
            "application.keep_samples=10",
        ),
        job_dir,
    )  # fmt: skip
    # Soft and hot conditions, 10 images each
    assert metrics[names.CLASSIFIER_FORWARDS] == 2 * 10 * 2 * 4
    assert metrics[names.CLASSIFIER_BACKWARDS] == 0
