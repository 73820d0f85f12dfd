"""What an audit concludes from its numbers."""

from __future__ import annotations

import pytest

from netinv_lightning.privacy.verdict import (
    GIVES_AWAY,
    NOTHING_SHOWN,
    TOO_FEW,
    TYPICALITY,
    Attacked,
    Conclusion,
    conclude,
    corrected,
)

NOTHING = Attacked(auc=0.51, auc_low=0.48, p_value=0.3, transfer=0.2)
TYPICAL = Attacked(auc=0.5, auc_low=0.47, p_value=0.5, transfer=0.9)
MEMORY = Attacked(auc=0.7, auc_low=0.66, p_value=0.001, transfer=0.2)


def concluded(
    attacks: dict[str, Attacked],
    control_auc_high: float = 0.52,
    planted: tuple[float, float] = (0.55, 0.001),
) -> Conclusion:
    return conclude(attacks, control_auc_high, planted, num_classes=10, ceiling=0.9)


def test_holm_by_hand() -> None:
    assert corrected({"a": 0.01, "b": 0.04, "c": 0.03}) == {
        "a": pytest.approx(0.03),
        "c": pytest.approx(0.06),
        "b": pytest.approx(0.06),
    }
    assert corrected({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}


@pytest.mark.parametrize(
    ("attacks", "name", "strongest"),
    [
        ({"a": NOTHING}, NOTHING_SHOWN, "a"),
        ({"a": NOTHING, "b": TYPICAL}, TYPICALITY, "a"),
        ({"a": TYPICAL, "b": MEMORY}, GIVES_AWAY, "b"),
        (
            {"a": Attacked(0.8, 0.45, 0.2), "b": MEMORY},
            GIVES_AWAY,
            "b",
        ),  # the larger AUC is not the one that is sure
        (
            {"a": Attacked(0.6, 0.55, 0.04), "b": NOTHING, "c": TYPICAL},
            TYPICALITY,
            "a",
        ),  # 0.04 is 0.12 of three attacks
    ],
)
def test_the_ladder(attacks: dict[str, Attacked], name: str, strongest: str) -> None:
    conclusion = concluded(attacks)
    assert (conclusion.name, conclusion.strongest) == (name, strongest)
    assert conclusion.line.startswith(f"verdict: {name}: ")
    assert [rung["passed"] for rung in conclusion.as_dict()["evidence"]] == [
        rung.passed for rung in conclusion.evidence
    ]


def test_splits_that_differ_by_themselves_are_no_memory() -> None:
    assert concluded({"a": MEMORY}, control_auc_high=0.67).name != GIVES_AWAY
    assert concluded({"a": MEMORY}, control_auc_high=0.65).name == GIVES_AWAY


def test_where_a_planted_leak_is_not_found_nothing_is_said() -> None:
    assert concluded({"a": NOTHING}, planted=(0.55, 0.06)).name == TOO_FEW
    assert concluded({"a": MEMORY}, planted=(0.55, 0.06)).name == GIVES_AWAY


def test_a_leak_that_other_real_images_reach_is_not_found() -> None:
    conclusion = concluded({"a": NOTHING}, control_auc_high=0.56)
    assert conclusion.name == TOO_FEW
    rung = conclusion.evidence[-1]
    assert (rung.metric, rung.value, rung.threshold, rung.passed) == (
        "AUC of the planted leak",
        0.55,
        0.56,
        False,
    )


def test_typicality_takes_half_the_way_from_chance_to_the_ceiling() -> None:
    for transfer, name in ((0.51, TYPICALITY), (0.49, NOTHING_SHOWN)):
        assert concluded({"a": Attacked(0.5, 0.45, 0.5, transfer)}).name == name
