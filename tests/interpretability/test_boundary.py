"""Pairs of samples, boundary points and tangent hyperplanes, on classifiers with known boundaries.

Shape suffixes: n samples, h hyperplanes, X coordinates, N classes.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.errors import InputError
from netinv_lightning.interpretability.boundary import (
    MAX_PAIRS,
    REST,
    Hyperplanes,
    sample_pairs,
    tangent_hyperplanes,
)
from netinv_lightning.interpretability.rules import learn_rules
from tests.interpretability.known_classifiers import (
    BIAS_N,
    WEIGHT_NX,
    linear,
    normal_samples,
    planes_across,
    stripes,
)

# Pairs


def test_all_pairs_of_classes_are_equally_frequent() -> None:
    class_n = torch.tensor([2] * 5 + [0] * 1 + [7] * 9)
    start_n, end_n = sample_pairs(class_n, per_pair=4, seed=1)
    pairs, counts = torch.stack([class_n[start_n], class_n[end_n]], dim=1).unique(
        dim=0, return_counts=True
    )
    assert pairs.tolist() == [[0, 2], [0, 7], [2, 0], [2, 7], [7, 0], [7, 2]]
    assert counts.tolist() == [4] * 6


@pytest.mark.parametrize(("classes", "pairs"), [(30, 870 * 2), (60, MAX_PAIRS)])
def test_pairs_of_many_classes_are_limited(classes: int, pairs: int) -> None:
    """Test 30 classes, with two sample pairs for each of 870 class pairs, and 60 classes.

    The 3,540 class pairs of 60 classes are too many for one sample pair each.
    """
    class_n = torch.arange(5 * classes) % classes
    start_n, end_n = sample_pairs(class_n)
    assert len(start_n) == pairs
    assert (class_n[start_n] != class_n[end_n]).all()
    distinct = torch.stack([class_n[start_n], class_n[end_n]], dim=1).unique(dim=0)
    assert len(distinct) == min(classes * (classes - 1), MAX_PAIRS)


def test_pairs_depend_only_on_the_seed() -> None:
    class_n = torch.arange(300) % 3
    state = torch.get_rng_state()
    first, again, other = (torch.stack(sample_pairs(class_n, seed=seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("class_n", "predicted"),
    [(torch.full((6,), 3), "class 3 for all 6"), (torch.zeros(0).long(), "no class for all 0")],
)
def test_one_class_is_refused(class_n: Tensor, predicted: str) -> None:
    planes = planes_across((0.0, 3, 4))
    for refused in (
        lambda: sample_pairs(class_n),
        lambda: learn_rules(torch.zeros(len(class_n), 1), class_n, planes),
    ):
        with pytest.raises(
            InputError,
            match=rf"^interpret: the classifier predicts {predicted} samples\. At least two",
        ):
            refused()


# Boundary points


def test_linear_hyperplanes_are_recovered() -> None:
    x_nX = 3 * normal_samples(400, 3, 0)
    start_n, end_n = sample_pairs(linear(x_nX).argmax(dim=1), per_pair=20)
    planes = tangent_hyperplanes(linear, x_nX[start_n], x_nX[end_n])
    assert len(planes) == len(start_n) == 4 * 3 * 20
    difference_hX = WEIGHT_NX[planes.inside_h] - WEIGHT_NX[planes.outside_h]
    norm_h = difference_hX.norm(dim=1)
    torch.testing.assert_close(planes.normal_hX, difference_hX / norm_h[:, None], rtol=0, atol=1e-5)
    torch.testing.assert_close(
        planes.offset_h,
        (BIAS_N[planes.outside_h] - BIAS_N[planes.inside_h]) / norm_h,
        rtol=0,
        atol=1e-5,
    )
    assert torch.equal(planes.inside_h, linear(x_nX[start_n]).argmax(dim=1))

    logits_hN = linear(planes.point_hX)
    own_h, other_h = (
        logits_hN.gather(1, side_h[:, None])[:, 0] for side_h in (planes.inside_h, planes.outside_h)
    )
    torch.testing.assert_close(own_h, other_h, rtol=0, atol=1e-5)
    ahead_h = logits_hN.amax(dim=1) - own_h  # at a corner, the third class
    assert ahead_h.max() < 1e-2
    assert (ahead_h < 1e-5).float().mean() > 0.98


def test_distances_are_signed() -> None:
    planes = Hyperplanes(
        torch.tensor([[0.6, 0.8]]),
        torch.tensor([2.0]),
        torch.tensor([0]),
        torch.tensor([1]),
        torch.tensor([[1.2, 1.6]]),
    )
    distance_nh = planes.distances(torch.tensor([[1.2, 1.6], [0.0, 0.0], [3.0, 4.0]]))
    torch.testing.assert_close(distance_nh, torch.tensor([[0.0], [-2.0], [3.0]]))


def test_a_third_class_on_the_segment_is_the_outside_class() -> None:
    from_nX, to_nX = torch.tensor([[-4.0], [4.0], [0.5]]), torch.tensor([[2.0], [-2.5], [9.0]])
    planes = tangent_hyperplanes(stripes, from_nX, to_nX)
    assert planes.inside_h.tolist() == [0, 2, 1]
    assert planes.outside_h.tolist() == [1, 1, 2]
    torch.testing.assert_close(
        planes.point_hX[:, 0], torch.tensor([-1.0, 1.0, 1.0]), rtol=0, atol=1e-5
    )
    assert planes.normal_hX[:, 0].tolist() == [-1, 1, -1]


def test_tangents_of_a_sphere_point_to_its_centre() -> None:
    def sphere(x_nX: Tensor) -> Tensor:
        return torch.stack([1 - x_nX.square().sum(dim=1), torch.zeros(len(x_nX))], dim=1)

    inner_nX, outer_nX = 0.2 * normal_samples(250, 5, 0).clamp(-1, 1), 4 + normal_samples(250, 5, 1)
    planes = tangent_hyperplanes(sphere, inner_nX, outer_nX)
    assert len(planes) == 250  # more than one batch, in the order of the pairs
    torch.testing.assert_close(planes.point_hX.norm(dim=1), torch.ones(250), rtol=0, atol=1e-4)
    torch.testing.assert_close(planes.normal_hX, -planes.point_hX, rtol=0, atol=1e-4)
    torch.testing.assert_close(planes.offset_h, -torch.ones(250), rtol=0, atol=1e-4)
    along_hX = planes.point_hX - inner_nX
    torch.testing.assert_close(
        torch.cosine_similarity(along_hX, outer_nX - inner_nX), torch.ones(250), rtol=0, atol=1e-3
    )


def test_against_the_rest_the_probability_is_one_half() -> None:
    x_nX = 4 * normal_samples(300, 3, 2)
    start_n, end_n = sample_pairs(linear(x_nX).argmax(dim=1))
    planes = tangent_hyperplanes(linear, x_nX[start_n], x_nX[end_n], against_rest=True)
    chance_hN = linear(planes.point_hX).softmax(dim=1)
    own_h1 = planes.inside_h[:, None]
    torch.testing.assert_close(
        chance_hN.gather(1, own_h1)[:, 0], torch.full((len(planes),), 0.5), rtol=0, atol=1e-4
    )
    # The gradient of the log odds is the weight of the own class minus the mean weight of the other
    # classes, averaged with their probabilities.
    share_hN = 2 * chance_hN.scatter(1, own_h1, 0.0)
    expected_hX = WEIGHT_NX[planes.inside_h] - share_hN @ WEIGHT_NX
    torch.testing.assert_close(
        planes.normal_hX, expected_hX / expected_hX.norm(dim=1, keepdim=True), rtol=0, atol=1e-2
    )
    assert set(planes.outside_h.tolist()) == {REST}


def test_pairs_without_a_boundary_give_no_hyperplane() -> None:
    from_nX, to_nX = torch.tensor([[-4.0], [-4.0], [0.1]]), torch.tensor([[-3.0], [0.0], [5.0]])
    assert tangent_hyperplanes(stripes, from_nX, to_nX).inside_h.tolist() == [
        0,
        1,
    ]  # the first pair has one class only
    # Against the rest, the probability of class 1 at 0.999 is just below one half.
    unsure, sure = (
        tangent_hyperplanes(stripes, torch.tensor([[0.999]]), to_nX[2:], True),
        tangent_hyperplanes(stripes, from_nX[2:], to_nX[2:], True),
    )
    assert (len(unsure), len(sure)) == (0, 1)


def test_points_without_a_gradient_give_no_hyperplane() -> None:
    def steps(x_nX: Tensor) -> Tensor:
        return torch.stack([x_nX[:, 0].sign(), 0 * x_nX[:, 0]], dim=1)

    planes = tangent_hyperplanes(
        steps, torch.tensor([[1.0], [2.0]]), torch.tensor([[-1.0], [-2.0]])
    )
    assert len(planes) == 0
    with pytest.raises(InputError, match=r"^interpret: no hyperplane was found .*$"):
        learn_rules(torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1]), planes)


def test_boundary_of_a_shipped_head() -> None:
    """The feature hyperplanes are those of the linear head, even for a loaded classifier."""
    classifier = load_zoo("mnist_cnn")
    head = classifier.network.get_submodule("head")
    weight_NX, bias_N = head.weight, head.bias
    assert isinstance(weight_NX, Tensor)
    assert isinstance(bias_N, Tensor)
    features_nX = 8 * torch.nn.functional.normalize(weight_NX).repeat(20, 1) + 0.3 * normal_samples(
        200, weight_NX.shape[1], 0
    )
    class_n = classifier.logits_from(features_nX).argmax(dim=1)
    assert class_n.unique().tolist() == list(range(10))
    start_n, end_n = sample_pairs(class_n, per_pair=2)
    planes = tangent_hyperplanes(classifier.logits_from, features_nX[start_n], features_nX[end_n])
    difference_hX = weight_NX[planes.inside_h] - weight_NX[planes.outside_h]
    norm_h = difference_hX.norm(dim=1)
    torch.testing.assert_close(planes.normal_hX, difference_hX / norm_h[:, None], rtol=0, atol=1e-5)
    torch.testing.assert_close(
        planes.offset_h,
        (bias_N[planes.outside_h] - bias_N[planes.inside_h]) / norm_h,
        rtol=0,
        atol=1e-4,
    )
