"""Rules and their fidelity, on planted classifiers and by hand.

Shape suffixes: n samples, h hyperplanes, X coordinates, N classes, R rules.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from netinv_lightning.interpretability.boundary import (
    REST,
    concatenate,
    sample_pairs,
    tangent_hyperplanes,
)
from netinv_lightning.interpretability.rule_fidelity import measure_rules
from netinv_lightning.interpretability.rules import HalfSpace, Rule, RuleSet, learn_rules
from tests.interpretability.known_classifiers import (
    exclusive_or,
    explained,
    linear,
    normal_samples,
    planes_across,
)

# Rules by hand


def test_the_largest_margin_decides() -> None:
    """The rules: class 0 above 1; class 1 from 2 to 5; class 2 below -1 or above 8."""
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


def test_rules_are_described_in_words() -> None:
    planes = planes_across((0.0, 3, 5), (0.0, 8, 3), (0.0, 3, REST), (0.0, 8, 9))
    rules = (
        Rule(3, (HalfSpace(0, True), HalfSpace(1, False)), 1.0, 1.0),
        Rule(3, (HalfSpace(2, True),), 1.0, 1.0),
        Rule(8, (HalfSpace(3, True),), 1.0, 1.0),
    )
    assert RuleSet(rules, planes).describe() == (
        "class 3 if h0 > 0 (3 against 5) and h1 < 0 (3 against 8); "
        "or if h2 > 0 (3 against the rest)"
        "\nclass 8 if h3 > 0 (8 against 9)"
    )


def test_penalty_trades_precision_for_coverage() -> None:
    """Ten samples of class 1 are at 1 to 10. Of class 0, three are at 2 to 4 and seven below 0.

    All 10 samples and 3 others are above 0.5; 6 samples and no others are above 4.5. With a penalty
    of 1 the first rule gains 10 - 3 = 7 and the second 6. With a penalty of 2 the first gains only
    4.
    """
    x_nX = torch.tensor([*range(1, 11), 2, 3, 4, *range(-7, 0)], dtype=torch.float32)[:, None]
    class_n = torch.tensor([1] * 10 + [0] * 10)
    planes = planes_across((0.5, 1, 0), (4.5, 1, 0))

    def rules_of_1(penalty: float) -> tuple[Rule, ...]:
        return tuple(
            rule
            for rule in learn_rules(x_nX, class_n, planes, penalty=penalty).rules
            if rule.conclusion == 1
        )

    (wide,), (narrow,) = rules_of_1(1), rules_of_1(2)
    assert (wide.precision, wide.coverage) == pytest.approx((10 / 13, 1.0))
    assert (narrow.precision, narrow.coverage) == pytest.approx((1.0, 0.6))


def test_a_poor_rule_is_kept_only_if_it_is_the_first() -> None:
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
    """Each class is bounded exactly by its three hyperplanes."""
    rules, x_nX, class_n = explained(linear, 3)
    held_out_nX = normal_samples(1000, 3, 9)
    held_out_n = linear(held_out_nX).argmax(dim=1)
    measures = measure_rules(rules, (x_nX, class_n), (held_out_nX, held_out_n))
    assert measures.inverted.rules > 0.99
    assert measures.inverted.rules > measures.inverted.tree > measures.inverted.majority
    assert measures.mean_precision > 0.99
    assert measures.greatest_length <= 4
    assert {rule.conclusion for rule in rules.rules} == {0, 1, 2, 3}


def test_exclusive_or_needs_two_rules_per_class() -> None:
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
def test_no_rule_is_longer_than_the_limit(max_length: int) -> None:
    rules, _, _ = explained(linear, 3, max_length=max_length)
    assert max(len(rule.half_spaces) for rule in rules.rules) == max_length


def test_precision_and_coverage_ignore_other_rules() -> None:
    rules, x_nX, class_n = explained(linear, 3, max_length=2)
    for rule, margin_n in zip(rules.rules, rules.margins(x_nX).T, strict=True):
        own_n = class_n == rule.conclusion
        assert rule.precision == pytest.approx(own_n[margin_n > 0].float().mean().item())
        assert rule.coverage == pytest.approx((margin_n > 0)[own_n].float().mean().item())


def test_only_used_hyperplanes_are_kept_in_order_of_use() -> None:
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


def test_both_kinds_of_hyperplanes_can_be_combined() -> None:
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


def test_a_class_without_training_samples_lowers_fidelity() -> None:
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
    """There are two rules: class 1 above 2 and class 0 below 0.

    Between 0 and 2 the nearest rule applies, with the limit at 1.
    """
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


def test_the_tree_has_at_most_one_leaf_per_half_space() -> None:
    rules, x_nX, class_n = explained(linear, 3)
    measures = measure_rules(rules, (x_nX, class_n), (x_nX, class_n))
    assert measures.half_spaces == sum(len(rule.half_spaces) for rule in rules.rules)
    assert (
        measures.tree_leaves == measures.half_spaces
    )  # boundaries oblique to the components use all leaves
    assert measures.real is None
    assert measures.mean_length == pytest.approx(measures.half_spaces / measures.rules)
