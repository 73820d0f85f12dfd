"""Transfer to verifiers per class and per conditioning, in metrics, verdict and diagnosis."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from netinv_lightning import metric_names as names
from netinv_lightning.evaluation.diagnosis import Case, diagnose
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.metric_groups.transfer import mixtures
from netinv_lightning.evaluation.transfer_metrics import transfer_metrics, transfer_table
from netinv_lightning.evaluation.verdict import CLASS_TYPICAL, judge
from netinv_lightning.metrics.accuracy import InversionAccuracy
from netinv_lightning.run import run

LABELS = ("cat", "a/b", "owl")
SOFT = {
    names.INVERSION_ACCURACY: 0.97,
    names.INVERSION_KL: 0.3,
    names.INTRA_CLASS_COSINE: 0.8,
    names.TRANSFER_ACCURACY: 0.93,
    "transfer/accuracy/mnist_mlp": 0.92,
    "transfer/accuracy/mnist_resnet": 0.94,
    "transfer/accuracy_class/1": 0.64,
    "transfer/accuracy_class/1/mnist_mlp": 0.30,
    "transfer/accuracy_class/1/mnist_resnet": 0.98,
    "transfer/accuracy_class/2/mnist_mlp": 0.56,
    "transfer/accuracy_hot": 0.96,
    "transfer/accuracy_hot/mnist_mlp": 0.94,
    "transfer/accuracy_hot/mnist_resnet": 0.98,
}
NATURAL = {"kl": 1.0, "ce": 1.0, "cosine": 1.0, "batch_norm": 1.0, "class_spread": 1.0}


def agreement(decisions: list[int], labels: list[int]) -> dict[str, torch.Tensor]:
    metric = InversionAccuracy(3)
    one_hot = torch.eye(3)
    metric.update(one_hot[decisions], torch.tensor(labels), one_hot[labels])
    computed: dict[str, torch.Tensor] = metric.compute()
    return computed


def test_transfer_of_hand_counted_decisions() -> None:
    labels = [0, 0, 0, 0, 1, 1]  # no image of the class owl
    verifiers = {
        "v": agreement([0, 0, 0, 2, 1, 0], labels),
        "w": agreement([0, 0, 2, 2, 1, 1], labels),
    }
    soft = transfer_metrics(verifiers, LABELS)
    assert soft == pytest.approx(
        {
            "transfer/accuracy": 4 / 6,
            "transfer/accuracy/v": 4 / 6,
            "transfer/accuracy/w": 4 / 6,
            "transfer/worst_class": 0.5,
            "transfer/worst_class/v": 0.5,
            "transfer/worst_class/w": 0.5,
            "transfer/accuracy_class/cat": 5 / 8,
            "transfer/accuracy_class/cat/v": 3 / 4,
            "transfer/accuracy_class/cat/w": 1 / 2,
            "transfer/accuracy_class/a/b": 3 / 4,
            "transfer/accuracy_class/a/b/v": 1 / 2,
            "transfer/accuracy_class/a/b/w": 1,
        }
    )
    hot = transfer_metrics({"v": agreement(labels, labels)}, LABELS, hot=True)
    assert hot["transfer/worst_class_hot"] == hot["transfer/accuracy_hot/v"] == 1
    table = transfer_table({**soft, **hot}, LABELS, ["v", "w"])
    assert table is not None
    assert list(table.columns) == ["class", "v, soft", "v, hot", "w, soft"]
    assert table.rows == [
        ["cat", 0.75, 1.0, 0.5],
        ["a/b", 0.5, 1.0, 1.0],
        ["all", pytest.approx(4 / 6), 1.0, pytest.approx(4 / 6)],
    ]
    assert transfer_table({}, LABELS, ["v"]) is None


def test_a_mixture_is_the_weighted_sum_of_one_image_per_class() -> None:
    levels_NHW = torch.tensor([0.0, 0.5, 1.0])[:, None, None, None].expand(3, 1, 4, 4)
    real = Images(levels_NHW[:2].repeat(3, 1, 1, 1), torch.tensor([0, 1] * 3))
    target_mN = torch.tensor([[0.2, 0.8, 0.0], [0.3, 0.3, 0.4], [1.0, 0.0, 0.0]])
    mixed = mixtures(real, target_mN, seed=0)
    # Class 2 has no images, so that the weights of the second row become 1/2 and 1/2.
    torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), torch.tensor([0.4, 0.25, 0.0]))


def test_verdict_names_the_class_that_a_verifier_does_not_recognise() -> None:
    verdict = judge(SOFT, 10, ceiling=0.99)
    assert verdict.name == CLASS_TYPICAL
    assert [tuple(item) for item in verdict.unrecognised] == [("1", "mnist_mlp", 0.30)]
    assert "; not recognised: 1 by mnist_mlp (0.30);" in verdict.line
    assert verdict.shortfall == (
        "transfer/accuracy_hot 0.960, 0.97 of the ceiling",
        "ambiguous vectors cost 0.030",
        "lowest with mnist_mlp 0.940",
    )
    assert "; ".join(verdict.shortfall) in verdict.line
    assert verdict.as_dict()["unrecognised"] == [
        {"label": "1", "verifier": "mnist_mlp", "value": 0.30}
    ]
    healthy = judge({**SOFT, "transfer/accuracy_class/1/mnist_mlp": 0.55}, 10, ceiling=0.99)
    assert healthy.unrecognised == ()
    assert "not recognised" not in healthy.line


def test_diagnosis_of_the_class_strengthens_a_prior_that_is_on() -> None:
    (finding,) = diagnose(Case(SOFT, 10, NATURAL, 0.99, {"application.steps": 600}))
    assert (finding.failure, finding.metric, finding.value) == (
        "class not recognised",
        "transfer/accuracy_class/1/mnist_mlp",
        0.30,
    )
    assert "1 by mnist_mlp (0.30)" in finding.line
    assert finding.settings == ("loss.batch_norm.weight=3", "application.steps=1200")
    (finding,) = diagnose(Case(SOFT, 10, {"kl": 1.0, "ce": 1.0}, 0.99))
    assert finding.settings == ("loss=natural",)
    assert diagnose(Case({**SOFT, "transfer/accuracy_class/1/mnist_mlp": 0.6}, 10, NATURAL)) == []


def test_a_diagnosis_never_recommends_what_is_on() -> None:
    noise = Case({**SOFT, names.TRANSFER_ACCURACY: 0.3}, 10, NATURAL, 0.99)
    assert [finding.settings for finding in diagnose(noise)] == [("loss.batch_norm.weight=3",)]
    hot = Case({**SOFT, names.INVERSION_KL: 0.9}, 10, {"kl": 1.0, "ce": 0.5}, 0.99, hot=True)
    assert "KL against CE" in {finding.failure for finding in diagnose(hot)}
    assert all("hot" not in "".join(finding.settings) for finding in diagnose(hot))
    assert all("loss.ce.weight=0.5" not in finding.settings for finding in diagnose(hot))
    collapsed = {**SOFT, names.INTRA_CLASS_COSINE: 0.99}
    for dropout, advice in ((0.3, "0.5"), (0.5, None), (0.7, None)):
        finding = diagnose(Case(collapsed, 10, NATURAL, keys={"generator.dropout": dropout}))[0]
        assert [s for s in finding.settings if "dropout" in s] == (
            [f"generator.dropout={advice}"] if advice else []
        )


def test_the_verdict_names_the_verifiers_that_chose_the_defaults(
    compose: Callable[..., DictConfig], job_dir: Path
) -> None:
    run(compose("application.verifiers=[mnist_mlp,mnist_strided]"), job_dir)
    verdict = json.loads((job_dir / "verdict.json").read_text())
    assert verdict["chose"] == ["mnist_mlp"]
    assert verdict["line"].endswith("; defaults were chosen on mnist_mlp")
