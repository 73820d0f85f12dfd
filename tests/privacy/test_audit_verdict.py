"""Verdict of an audit, computed from its numbers."""

from __future__ import annotations

import pytest

from netinv_lightning.privacy.audit_verdict import (
    LEAKS_CLASSES,
    LEAKS_IMAGES,
    NO_LEAK_FOUND,
    UNDERPOWERED,
    UNLIKE_SPLITS,
    AttackResult,
    AuditVerdict,
    conclude,
    holm_corrected,
    splits_differ,
)

NO_LEAK = AttackResult(auc=0.51, auc_low=0.48, p_value=0.3, transfer=0.2)
TYPICAL = AttackResult(auc=0.5, auc_low=0.47, p_value=0.5, transfer=0.9)
MEMORY = AttackResult(auc=0.7, auc_low=0.66, p_value=0.001, transfer=0.2)


def verdict_of(
    attacks: dict[str, AttackResult],
    control_auc_high: float = 0.52,
    planted: tuple[float, float] = (0.55, 0.001),
    unlike_splits: bool = False,
) -> AuditVerdict:
    return conclude(
        attacks,
        control_auc_high=control_auc_high,
        planted=planted,
        num_classes=10,
        ceiling=0.9,
        unlike_splits=unlike_splits,
    )


def test_line_contains_strongest_attack_evidence_and_gaps() -> None:
    untested = {"a": AttackResult(auc=0.51, auc_low=0.48, p_value=0.3)}
    assert verdict_of(untested).line == (
        "verdict: no leak found: no attack recovered training images, or images that other "
        "networks recognise; a stronger attack might (strongest attack: a; AUC of a, lower end "
        "0.480, threshold 0.520; p (Holm-corrected) 0.300, threshold 0.050; p of the planted leak "
        "0.001, threshold 0.050); not tested: transfer (set application.verifiers)"
    )


def test_holm_correction_by_hand() -> None:
    assert holm_corrected({"a": 0.01, "b": 0.04, "c": 0.03}) == {
        "a": pytest.approx(0.03),
        "c": pytest.approx(0.06),
        "b": pytest.approx(0.06),
    }
    assert holm_corrected({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}


@pytest.mark.parametrize(
    ("attacks", "name", "strongest"),
    [
        ({"a": NO_LEAK}, NO_LEAK_FOUND, "a"),
        ({"a": NO_LEAK, "b": TYPICAL}, LEAKS_CLASSES, "a"),
        ({"a": TYPICAL, "b": MEMORY}, LEAKS_IMAGES, "b"),
        (
            {"a": AttackResult(0.8, 0.45, 0.2), "b": MEMORY},
            LEAKS_IMAGES,
            "b",
        ),  # the larger AUC is not significant
        (
            {"a": AttackResult(0.6, 0.55, 0.04), "b": NO_LEAK, "c": TYPICAL},
            LEAKS_CLASSES,
            "a",
        ),  # 0.04 becomes 0.12 after correction
    ],
)
def test_verdict_follows_the_strongest_attack(
    attacks: dict[str, AttackResult], name: str, strongest: str
) -> None:
    conclusion = verdict_of(attacks)
    assert (conclusion.name, conclusion.strongest) == (name, strongest)
    assert conclusion.line.startswith(f"verdict: {name}: ")
    assert [item["passed"] for item in conclusion.as_dict()["evidence"]] == [
        item.passed for item in conclusion.evidence
    ]


def test_leak_must_exceed_other_real_images() -> None:
    assert verdict_of({"a": MEMORY}, control_auc_high=0.67).name != LEAKS_IMAGES
    assert verdict_of({"a": MEMORY}, control_auc_high=0.65).name == LEAKS_IMAGES


def test_undetected_planted_leak_is_underpowered() -> None:
    assert verdict_of({"a": NO_LEAK}, planted=(0.55, 0.06)).name == UNDERPOWERED
    assert verdict_of({"a": MEMORY}, planted=(0.55, 0.06)).name == LEAKS_IMAGES


def test_planted_leak_must_exceed_other_real_images() -> None:
    conclusion = verdict_of({"a": NO_LEAK}, control_auc_high=0.56)
    assert conclusion.name == UNDERPOWERED
    item = conclusion.evidence[-1]
    assert (item.metric, item.value, item.threshold, item.passed) == (
        "AUC of the planted leak",
        0.55,
        0.56,
        False,
    )


def test_transfer_threshold_is_midway_to_the_ceiling() -> None:
    for transfer, name in ((0.51, LEAKS_CLASSES), (0.49, NO_LEAK_FOUND)):
        assert verdict_of({"a": AttackResult(0.5, 0.45, 0.5, transfer)}).name == name


@pytest.mark.parametrize(("unlike", "name"), [(False, UNDERPOWERED), (True, UNLIKE_SPLITS)])
def test_an_undetected_leak_is_blamed_on_splits_that_differ(unlike: bool, name: str) -> None:
    assert verdict_of({"a": NO_LEAK}, 0.39, (0.405, 0.9), unlike).name == name
    assert verdict_of({"a": NO_LEAK}, 0.39, (0.8, 0.001), unlike).name == NO_LEAK_FOUND


def test_splits_differ_if_the_interval_of_the_control_excludes_half() -> None:
    assert splits_differ(False, 0.34, 0.39)
    assert splits_differ(False, 0.51, 0.55)
    assert not splits_differ(False, 0.49, 0.51)
    assert not splits_differ(True, 0.34, 0.39)  # one random split: chance
