"""Boundary points, tangent hyperplanes and rules, against known hyperplanes, planted regions and hand-counted cases.

Shape suffixes: n samples, h hyperplanes, X coordinates, N classes, R rules.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.errors import InputError
from netinv_lightning.interpretability.boundary import (
    MAX_PAIRS,
    REST,
    Hyperplanes,
    concatenate,
    sample_pairs,
    tangent_hyperplanes,
)
from netinv_lightning.interpretability.rule_fidelity import measure_rules
from netinv_lightning.interpretability.rules import HalfSpace, Rule, RuleSet, learn_rules

Logits = Callable[[Tensor], Tensor]
WEIGHT_NX = torch.tensor([[1.0, 0.5, -0.3], [-0.7, 1.2, 0.1], [0.2, -0.9, 1.1], [-0.4, -0.6, -1.0]])
BIAS_N = torch.tensor([0.3, -0.2, 0.1, 0.0])


def linear(x_nX: Tensor) -> Tensor:
    """Four classes in 3-D."""
    return x_nX @ WEIGHT_NX.T + BIAS_N


def stripes(x_nX: Tensor) -> Tensor:
    """Class 0 where x < -1, class 1 between, class 2 where x > 1."""
    x_n = x_nX[:, 0]
    return torch.stack([-2 * x_n, torch.full_like(x_n, 2.0), 2 * x_n], dim=1)


def exclusive_or(x_nX: Tensor) -> Tensor:
    """Class 1 where the two coordinates have one sign, else class 0."""
    product_n = x_nX[:, 0] * x_nX[:, 1]
    return torch.stack([-product_n, product_n], dim=1)


def normal_samples(n: int, dim: int, seed: int) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def explained(
    logits_of: Logits, dim: int, n: int = 1000, seed: int = 0, **limits: float
) -> tuple[RuleSet, Tensor, Tensor]:
    """Rules of a planted classifier, the samples that they were learned from, and their classes."""
    x_nX = normal_samples(n, dim, seed)
    class_n = logits_of(x_nX).argmax(dim=1)
    start_n, end_n = sample_pairs(class_n, seed=seed)
    planes = tangent_hyperplanes(logits_of, x_nX[start_n], x_nX[end_n])
    return learn_rules(x_nX, class_n, planes, **limits), x_nX, class_n  # type: ignore[arg-type]


def planes_across(*bounds: tuple[float, int, int]) -> Hyperplanes:
    """Hyperplanes of a line, inside above the bound: (bound, inside, outside)."""
    offset_h = torch.tensor([bound for bound, _, _ in bounds])
    inside_h, outside_h = (torch.tensor([bound[side] for bound in bounds]) for side in (1, 2))
    return Hyperplanes(torch.ones(len(bounds), 1), offset_h, inside_h, outside_h, offset_h[:, None])


# Pairs


def test_pairs_join_each_class_with_each_other_one_equally_often() -> None:
    class_n = torch.tensor([2] * 5 + [0] * 1 + [7] * 9)
    start_n, end_n = sample_pairs(class_n, per_pair=4, seed=1)
    pairs, counts = torch.stack([class_n[start_n], class_n[end_n]], dim=1).unique(
        dim=0, return_counts=True
    )
    assert pairs.tolist() == [[0, 2], [0, 7], [2, 0], [2, 7], [7, 0], [7, 2]]
    assert counts.tolist() == [4] * 6


@pytest.mark.parametrize(("classes", "pairs"), [(30, 870 * 2), (60, MAX_PAIRS)])
def test_pairs_of_many_classes_are_limited(classes: int, pairs: int) -> None:
    """870 pairs of classes could have two each, 3,540 not even one each."""
    class_n = torch.arange(5 * classes) % classes
    start_n, end_n = sample_pairs(class_n)
    assert len(start_n) == pairs
    assert (class_n[start_n] != class_n[end_n]).all()
    distinct = torch.stack([class_n[start_n], class_n[end_n]], dim=1).unique(dim=0)
    assert len(distinct) == min(classes * (classes - 1), MAX_PAIRS)


def test_pairs_depend_on_their_seed_alone() -> None:
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
    ahead_h = logits_hN.amax(dim=1) - own_h  # of a third class, at a corner
    assert ahead_h.max() < 1e-2
    assert (ahead_h < 1e-5).float().mean() > 0.98


def test_distances_are_signed_and_in_units_of_the_samples() -> None:
    planes = Hyperplanes(
        torch.tensor([[0.6, 0.8]]),
        torch.tensor([2.0]),
        torch.tensor([0]),
        torch.tensor([1]),
        torch.tensor([[1.2, 1.6]]),
    )
    distance_nh = planes.distances(torch.tensor([[1.2, 1.6], [0.0, 0.0], [3.0, 4.0]]))
    torch.testing.assert_close(distance_nh, torch.tensor([[0.0], [-2.0], [3.0]]))


def test_a_third_class_on_the_segment_is_the_outside() -> None:
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
    # The gradient of the log odds: own weights less those of the others by their shares of what is left.
    share_hN = 2 * chance_hN.scatter(1, own_h1, 0.0)
    expected_hX = WEIGHT_NX[planes.inside_h] - share_hN @ WEIGHT_NX
    torch.testing.assert_close(
        planes.normal_hX, expected_hX / expected_hX.norm(dim=1, keepdim=True), rtol=0, atol=1e-2
    )
    assert set(planes.outside_h.tolist()) == {REST}


def test_pairs_without_a_boundary_give_none() -> None:
    from_nX, to_nX = torch.tensor([[-4.0], [-4.0], [0.1]]), torch.tensor([[-3.0], [0.0], [5.0]])
    assert tangent_hyperplanes(stripes, from_nX, to_nX).inside_h.tolist() == [
        0,
        1,
    ]  # the first pair is of one class
    # Against the rest class 1 does not lead at 0.999, where its probability is just below one half.
    unsure, sure = (
        tangent_hyperplanes(stripes, torch.tensor([[0.999]]), to_nX[2:], True),
        tangent_hyperplanes(stripes, from_nX[2:], to_nX[2:], True),
    )
    assert (len(unsure), len(sure)) == (0, 1)


def test_points_without_a_gradient_give_none_and_no_rules() -> None:
    def steps(x_nX: Tensor) -> Tensor:
        return torch.stack([x_nX[:, 0].sign(), 0 * x_nX[:, 0]], dim=1)

    planes = tangent_hyperplanes(
        steps, torch.tensor([[1.0], [2.0]]), torch.tensor([[-1.0], [-2.0]])
    )
    assert len(planes) == 0
    with pytest.raises(InputError, match=r"^interpret: no hyperplane was found .*$"):
        learn_rules(torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1]), planes)


def test_boundary_of_a_shipped_head() -> None:
    """The features' hyperplanes are those of the linear head, in the classifier as users have it."""
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


# Rules by hand


def test_the_widest_margin_decides() -> None:
    """Class 0 above 1, class 1 above 2 and below 5, class 2 below -1 or above 8."""
    planes = planes_across((1.0, 0, 1), (2.0, 1, 2), (5.0, 0, 1), (-1.0, 0, 2), (8.0, 2, 0))
    rules = RuleSet(
        (
            Rule(0, (HalfSpace(0, True),), 1.0, 1.0),
            Rule(1, (HalfSpace(1, True), HalfSpace(2, False)), 1.0, 1.0),
            Rule(2, (HalfSpace(3, False),), 1.0, 0.5),
            Rule(2, (HalfSpace(4, True),), 1.0, 0.5),
        ),
        planes,
    )
    x_nX = torch.tensor([[3.0], [0.8], [-0.9], [-3.0], [1.4], [20.0]])
    expected_nR = torch.tensor(
        [[2.0, 1, -4, -5], [-0.2, -1.2, -1.8, -7.2], [-1.9, -2.9, -0.1, -8.9]]
    )
    torch.testing.assert_close(rules.margins(x_nX)[:3], expected_nR)
    assert rules.predict(x_nX).tolist() == [0, 0, 2, 2, 0, 0]
    assert rules.matches(x_nX).tolist() == [2, 0, 0, 1, 1, 2]


def test_rules_in_words() -> None:
    planes = planes_across((0.0, 3, 5), (0.0, 8, 3), (0.0, 3, REST), (0.0, 8, 9))
    rules = (
        Rule(3, (HalfSpace(0, True), HalfSpace(1, False)), 1.0, 1.0),
        Rule(3, (HalfSpace(2, True),), 1.0, 1.0),
        Rule(8, (HalfSpace(3, True),), 1.0, 1.0),
    )
    assert RuleSet(rules, planes).describe() == (
        "class 3 if h0 > 0 (3 against 5) and h1 < 0 (3 against 8); or if h2 > 0 (3 against the rest)\nclass 8 if h3 > 0 (8 against 9)"
    )


def test_price_trades_precision_for_coverage() -> None:
    """10 samples of class 1 at 1..10; of class 0, three at 2 to 4 and seven below 0.

    Above 0.5 are all 10 and 3 others; above 4.5 are 6 and no others. At a price of 1 the first gains 10 - 3 = 7 and the second 6,
    at a price of 2 the first gains 4.
    """
    x_nX = torch.tensor([*range(1, 11), 2, 3, 4, *range(-7, 0)], dtype=torch.float32)[:, None]
    class_n = torch.tensor([1] * 10 + [0] * 10)
    planes = planes_across((0.5, 1, 0), (4.5, 1, 0))

    def rules_of_1(price: float) -> tuple[Rule, ...]:
        return tuple(
            rule
            for rule in learn_rules(x_nX, class_n, planes, penalty=price).rules
            if rule.conclusion == 1
        )

    (wide,), (narrow,) = rules_of_1(1), rules_of_1(2)
    assert (wide.precision, wide.coverage) == pytest.approx((10 / 13, 1.0))
    assert (narrow.precision, narrow.coverage) == pytest.approx((1.0, 0.6))


def test_a_poor_first_rule_stands_and_a_poor_further_one_does_not() -> None:
    x_nX = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    rules = learn_rules(
        x_nX, torch.tensor([1, 0, 0, 0]), planes_across((0.0, 1, 0)), penalty=1
    ).rules
    assert [(rule.conclusion, rule.precision, rule.coverage) for rule in rules] == [
        (0, 0.0, 0.0),
        (1, 0.25, 1.0),
    ]


# Rules of planted classifiers


def test_rules_of_a_linear_classifier_are_its_hyperplanes() -> None:
    """Each class is cut out by its three hyperplanes, exactly."""
    rules, x_nX, class_n = explained(linear, 3)
    held_out_nX = normal_samples(1000, 3, 9)
    held_out_n = linear(held_out_nX).argmax(dim=1)
    measures = measure_rules(rules, (x_nX, class_n), (held_out_nX, held_out_n))
    assert measures.inverted.rules > 0.99
    assert measures.inverted.rules > measures.inverted.tree > measures.inverted.majority
    assert measures.mean_precision > 0.99
    assert measures.greatest_length <= 4
    assert {rule.conclusion for rule in rules.rules} == {0, 1, 2, 3}


def test_exclusive_or_needs_two_rules_a_class() -> None:
    rules, _, _ = explained(exclusive_or, 2)
    assert [rule.conclusion for rule in rules.rules] == [0, 0, 1, 1]
    assert all(len(rule.half_spaces) >= 2 for rule in rules.rules)
    held_out_nX = normal_samples(1000, 2, 9)
    assert (
        rules.predict(held_out_nX) == exclusive_or(held_out_nX).argmax(dim=1)
    ).float().mean() > 0.99
    assert (rules.matches(held_out_nX) == 1).float().mean() > 0.97
    one_each, _, _ = explained(exclusive_or, 2, max_rules=1)
    assert len(one_each.rules) == 2
    assert (
        one_each.predict(held_out_nX) == exclusive_or(held_out_nX).argmax(dim=1)
    ).float().mean() < 0.8


@pytest.mark.parametrize("max_length", [1, 2])
def test_no_rule_is_longer_than_told(max_length: int) -> None:
    rules, _, _ = explained(linear, 3, max_length=max_length)
    assert max(len(rule.half_spaces) for rule in rules.rules) == max_length


def test_precision_and_coverage_are_those_of_the_rule_alone() -> None:
    rules, x_nX, class_n = explained(linear, 3, max_length=2)
    for rule, margin_n in zip(rules.rules, rules.margins(x_nX).T, strict=True):
        own_n = class_n == rule.conclusion
        assert rule.precision == pytest.approx(own_n[margin_n > 0].float().mean().item())
        assert rule.coverage == pytest.approx((margin_n > 0)[own_n].float().mean().item())


def test_only_used_hyperplanes_are_kept_in_the_order_of_their_use() -> None:
    rules, _, _ = explained(linear, 3)
    used = [half_space.plane for rule in rules.rules for half_space in rule.half_spaces]
    assert list(dict.fromkeys(used)) == list(range(len(rules.planes)))
    for rule in rules.rules:
        for half_space in rule.half_spaces:
            side_h = rules.planes.inside_h if half_space.inside else rules.planes.outside_h
            assert side_h[half_space.plane] == rule.conclusion


def test_rules_are_repeatable() -> None:
    (first, _, _), (again, _, _) = explained(exclusive_or, 2), explained(exclusive_or, 2)
    assert first.rules == again.rules
    assert torch.equal(first.planes.normal_hX, again.planes.normal_hX)


def test_both_kinds_of_hyperplanes_in_one_pool() -> None:
    x_nX = 4 * normal_samples(600, 3, 0)
    class_n = linear(x_nX).argmax(dim=1)
    start_n, end_n = sample_pairs(class_n)
    pools = [
        tangent_hyperplanes(linear, x_nX[start_n], x_nX[end_n], against_rest)
        for against_rest in (False, True)
    ]
    pool = concatenate(pools)
    assert len(pool) == len(pools[0]) + len(pools[1])
    assert torch.equal(pool.offset_h, torch.cat([part.offset_h for part in pools]))
    rules = learn_rules(x_nX, class_n, pool)
    assert (rules.predict(x_nX) == class_n).float().mean() > 0.99


# Measures


def test_a_class_of_no_samples_is_never_concluded_and_counts_against_fidelity() -> None:
    x_nX = normal_samples(900, 3, 0)
    class_n = linear(x_nX).argmax(dim=1)
    some_nX, some_n = x_nX[class_n != 2], class_n[class_n != 2]
    start_n, end_n = sample_pairs(some_n)
    rules = learn_rules(
        some_nX, some_n, tangent_hyperplanes(linear, some_nX[start_n], some_nX[end_n])
    )
    assert {rule.conclusion for rule in rules.rules} == {0, 1, 3}
    fidelity = measure_rules(rules, (some_nX, some_n), (x_nX, class_n)).inverted
    assert list(fidelity.classes) == [0, 1, 2, 3]
    assert fidelity.classes[2] == 0
    assert fidelity.rules <= (class_n != 2).float().mean().item()


def test_measures_by_hand() -> None:
    """One rule each: class 1 above 2, class 0 below 0; the nearest rule decides between, at 1."""
    planes = planes_across((2.0, 1, 0), (0.0, 1, 0))
    rules = RuleSet(
        (Rule(0, (HalfSpace(1, False),), 0.5, 1.0), Rule(1, (HalfSpace(0, True),), 1.0, 1.0)),
        planes,
    )
    training = torch.tensor([[-1.0], [-2.0], [3.0], [4.0], [5.0]]), torch.tensor([0, 0, 1, 1, 1])
    inverted = torch.tensor([[-1.0], [0.5], [1.5], [3.0]]), torch.tensor([0, 1, 1, 1])
    measures = measure_rules(
        rules, training, inverted, real=(torch.tensor([[9.0], [8.0]]), torch.tensor([1, 0]))
    )
    found = dataclasses.asdict(measures)
    on_inverted, on_real = found.pop("inverted"), found.pop("real")
    numbers = {
        "rules": 2,
        "half_spaces": 2,
        "mean_length": 1,
        "greatest_length": 1,
        "mean_precision": 0.75,
    }
    assert found == pytest.approx(numbers | {"tree_leaves": 2, "tree_depth": 1})
    assert on_inverted.pop("classes") == pytest.approx({0: 1, 1: 2 / 3})
    assert on_real.pop("classes") == pytest.approx({0: 0, 1: 1})
    # The tree splits at 1, midway between -1 and 3.
    assert on_inverted == pytest.approx(
        {"rules": 0.75, "uncovered": 0.5, "ambiguous": 0, "tree": 0.75, "majority": 0.75}
    )
    assert on_real == pytest.approx(
        {"rules": 0.5, "uncovered": 0, "ambiguous": 0, "tree": 0.5, "majority": 0.5}
    )


def test_the_tree_has_no_more_leaves_than_the_rules_have_half_spaces() -> None:
    rules, x_nX, class_n = explained(linear, 3)
    measures = measure_rules(rules, (x_nX, class_n), (x_nX, class_n))
    assert measures.half_spaces == sum(len(rule.half_spaces) for rule in rules.rules)
    assert (
        measures.tree_leaves == measures.half_spaces
    )  # boundaries askew to the components use all they are allowed
    assert measures.real is None
    assert measures.mean_length == pytest.approx(measures.half_spaces / measures.rules)
