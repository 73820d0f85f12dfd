"""Verdict, diagnosis, and similarity to training images."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

import netinv_lightning
from netinv_lightning import metric_names as names
from netinv_lightning.evaluation.diagnosis import Case, Finding, diagnose
from netinv_lightning.evaluation.verdict import (
    ADVERSARIAL,
    CLASS_TYPICAL,
    NO_INVERSION,
    TRAINING_LIKE,
    TRANSFER_NOT_TESTED,
    judge,
)
from netinv_lightning.run import run

Compose = Callable[..., DictConfig]
GRADIENT = [
    "method=gradient",
    "classifier.zoo=mnist_mlp",
    "application.verifiers=[mnist_resnet]",
    "application.eval_samples=32",
    "application.keep_samples=32",
    "application.grid_columns=1",
]
PIXELS = [*GRADIENT, "method.steps=20"]
QUIET = [
    "application.grid_every=1000",
    "application.checkpoint_every=1000",
    "application.keep_samples=16",
]

HEALTHY = {
    names.INVERSION_ACCURACY: 0.99,
    names.INVERSION_KL: 0.33,
    names.INTRA_CLASS_COSINE: 0.8,
    names.TRANSFER_ACCURACY: 0.9,
    names.class_accuracy("0"): 0.98,
    names.excess("orthogonality"): 0.09,
}
EXCESS = names.excess("orthogonality")
WEIGHT = {"kl": 1.0, "ce": 1.0, "cosine": 1.0, "orthogonality": 1.0}
KEYS = {"application.steps": 400, "generator.dropout": 0.1}


@pytest.mark.parametrize(
    ("accuracy", "transfer", "name", "margin"),
    [
        (0.10, 0.9, NO_INVERSION, 0.10 - 0.55),  # threshold midway between 0.1 and 1
        (0.54, 0.9, NO_INVERSION, 0.54 - 0.55),
        # threshold midway between 0.1 and the ceiling of 0.98
        (0.99, 0.30, ADVERSARIAL, 0.30 - 0.54),
        (0.99, 0.53, ADVERSARIAL, 0.53 - 0.54),
        (0.99, 0.55, CLASS_TYPICAL, 0.55 - 0.54),
    ],
)
def test_the_first_failed_question_determines_the_verdict(
    accuracy: float, transfer: float, name: str, margin: float
) -> None:
    verdict = judge(
        {names.INVERSION_ACCURACY: accuracy, names.TRANSFER_ACCURACY: transfer},
        num_classes=10,
        ceiling=0.98,
    )
    assert verdict.name == name
    assert verdict.evidence[-1].margin == pytest.approx(margin)
    assert verdict.as_dict()["evidence"][-1]["margin"] == pytest.approx(margin)
    assert f"{abs(margin):.3f} {'above' if margin > 0 else 'below'}" in verdict.line


def test_threshold_follows_ceiling_and_number_of_classes() -> None:
    metrics = {names.INVERSION_ACCURACY: 0.9, names.TRANSFER_ACCURACY: 0.45}
    assert judge(metrics, 10, ceiling=0.76).name == CLASS_TYPICAL  # threshold 0.43
    assert judge(metrics, 10).name == ADVERSARIAL  # the ceiling is unknown, so it is 1
    assert judge(metrics, 100).name == ADVERSARIAL  # threshold 0.505
    # The threshold for two classes is 0.75.
    assert judge({**metrics, names.INVERSION_ACCURACY: 0.74}, 2, ceiling=1.0).name == NO_INVERSION


def test_untested_questions_are_listed() -> None:
    alone = judge({names.INVERSION_ACCURACY: 0.99}, 10)
    assert alone.name == TRANSFER_NOT_TESTED
    assert "application.verifiers" in alone.line
    weak = judge({names.INVERSION_ACCURACY: 0.99, names.TRANSFER_ACCURACY: 0.9}, 10, ceiling=0.15)
    assert weak.name == TRANSFER_NOT_TESTED
    assert "reach 0.15 on real images" in weak.line
    typical = judge(HEALTHY, 10)
    assert typical.name == CLASS_TYPICAL
    assert "training images" in typical.not_tested[0]
    assert "not tested" in typical.line


@pytest.mark.parametrize(
    ("low", "p_value", "name"),
    [(0.05, 0.001, TRAINING_LIKE), (-0.01, 0.001, CLASS_TYPICAL), (0.05, 0.2, CLASS_TYPICAL)],
)
def test_training_like_needs_interval_and_random_splits(
    low: float, p_value: float, name: str
) -> None:
    verdict = judge(
        {**HEALTHY, names.MEMORISATION_GAP_LOW: low, names.MEMORISATION_GAP_P_VALUE: p_value}, 10
    )
    assert verdict.name == name
    assert verdict.not_tested == ()
    assert [item.passed for item in verdict.evidence] == [True, True, name == TRAINING_LIKE]


def test_no_diagnosis_of_healthy_numbers() -> None:
    assert diagnose(Case(HEALTHY, 10, WEIGHT, 0.98, KEYS)) == []


@pytest.mark.parametrize(
    ("change", "failure", "metric", "threshold", "settings"),
    [
        (
            {names.INTRA_CLASS_COSINE: 0.99}, "mode collapse", names.INTRA_CLASS_COSINE, 0.98,
            ("loss.cosine.weight=3", "generator.dropout=0.3"),
        ),
        (
            {names.class_accuracy("7"): 0.2}, "label mismatch", names.class_accuracy("7"), 0.5,
            ("loss.ce.weight=3", "application.steps=800"),
        ),
        (
            {names.INVERSION_ACCURACY: 0.3}, "label mismatch", names.INVERSION_ACCURACY, 0.55,
            ("loss.ce.weight=3", "application.steps=800"),
        ),
        ({names.TRANSFER_ACCURACY: 0.3}, "noise", names.TRANSFER_ACCURACY, 0.54, ("loss=natural",)),
        (
            {names.INTRA_CLASS_COSINE: 0.4}, "over-diversity", names.INTRA_CLASS_COSINE, 0.5,
            ("loss.cosine.weight=0.1", "loss.orthogonality.weight=0.1", "generator.dropout=0.05"),
        ),
        (
            {names.INVERSION_KL: 0.7}, "KL against CE", names.INVERSION_KL, math.log(2),
            ("loss.ce.weight=0.5", "conditioning.vectors=hot"),
        ),
        (
            {EXCESS: 0.01}, "orthogonality at its floor", EXCESS, 0.02,
            ("loss.orthogonality.weight=0",),
        ),
    ],
)  # fmt: skip
def test_each_failure_is_named(
    change: dict[str, float], failure: str, metric: str, threshold: float, settings: tuple[str, ...]
) -> None:
    (finding,) = diagnose(Case({**HEALTHY, **change}, 10, WEIGHT, 0.98, KEYS))
    assert (finding.failure, finding.metric, finding.value, finding.settings) == (
        failure,
        metric,
        change[metric],
        settings,
    )
    assert finding.threshold == pytest.approx(threshold)
    assert all(word in finding.line for word in (failure, metric, *settings))
    _settings_change_the_config(finding)


def test_advice_adds_a_missing_term() -> None:
    (finding,) = diagnose(Case({**HEALTHY, names.INTRA_CLASS_COSINE: 1.0}, 10, {"ce": 1.0}, 0.98))
    assert finding.settings == ("'+loss.cosine={weight: 1}'",)
    cfg = netinv_lightning.compose(["loss=ce_only", finding.settings[0].strip("'")])
    assert cfg.loss.cosine.weight == 1


def test_failures_of_a_term_need_the_term() -> None:
    metrics = {**HEALTHY, names.INVERSION_KL: 2.0, names.excess("orthogonality"): 0.0}
    assert diagnose(Case(metrics, 10, {"ce": 1.0, "kl": 0.0, "orthogonality": 0.0})) == []
    assert diagnose(Case({}, 10, WEIGHT)) == []  # nothing was measured


def test_equal_weights_never_give_kl_against_ce() -> None:
    """With equal weights the optimum is Q = (P + one-hot) / 2, with a KL from P below ln 2."""
    p_nN = (
        torch.randn(1000, 10, generator=torch.Generator().manual_seed(0))
        .double()
        .mul(3)
        .softmax(dim=1)
    )
    q_nN = (p_nN + torch.nn.functional.one_hot(p_nN.argmax(dim=1), 10)) / 2
    kl_n = (p_nN * (p_nN / q_nN).log()).sum(dim=1)
    assert float(kl_n.max()) < math.log(2)


@pytest.mark.parametrize(
    ("overrides", "failures", "verdict"),
    [
        (  # cross-entropy only, one label per class, latents as the only randomness
            [
                "loss=ce_only",
                "conditioning=label",
                "generator.dropout=0",
                "classifier.zoo=mnist_mlp",
                "application.verifiers=[mnist_resnet]",
                "application.steps=60",
                "application.batch_size=20",
                "application.eval_samples=100",
                *QUIET,
            ],
            {"mode collapse"},
            ADVERSARIAL,
        ),
        # after 8 steps all images are equal
        ([], {"label mismatch", "mode collapse"}, NO_INVERSION),
        ([*PIXELS, "loss=ce_only"], {"noise"}, ADVERSARIAL),
        (
            [*PIXELS, "loss.orthogonality.weight=300"],
            {"over-diversity", "label mismatch"},
            NO_INVERSION,
        ),
        ([*PIXELS, "loss.ce.weight=30"], {"KL against CE"}, ADVERSARIAL),
        (  # logits as features: 32 images in 10 dimensions
            [
                *GRADIENT,
                "method.steps=100",
                "loss.orthogonality.weight=100",
                "loss.cosine.weight=0",
                "classifier.feature_layers=[head]",
            ],
            {"orthogonality at its floor"},
            ADVERSARIAL,
        ),
    ],
    ids=[
        "mode collapse",
        "label mismatch",
        "noise",
        "over-diversity",
        "KL against CE",
        "orthogonality",
    ],
)
def test_each_failure_is_provoked(
    compose: Compose, job_dir: Path, overrides: list[str], failures: set[str], verdict: str
) -> None:
    run(compose("data=mnist", "application.verifiers=[mnist_mlp]", *overrides), job_dir)
    found = json.loads((job_dir / "verdict.json").read_text())
    named = {finding["failure"] for finding in found["diagnosis"]}
    assert failures <= named
    assert found["verdict"] == verdict


def _settings_change_the_config(finding: Finding) -> None:
    before = netinv_lightning.compose()
    for setting in finding.settings:
        assert netinv_lightning.compose([setting]) != before, setting
