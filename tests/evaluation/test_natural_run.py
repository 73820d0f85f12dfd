"""A run with `loss=natural`: its verdict, and its images beside those of `loss=inversion`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import netinv_lightning
from netinv_lightning import metric_names as names
from netinv_lightning.evaluation.verdict import CLASS_TYPICAL
from netinv_lightning.run import run
from tests.conftest import FEW_STEPS


def inverted_by(loss: str, path: Path) -> Path:
    """Train for a fraction of the recipe's steps."""
    overrides = [
        "+experiment=mnist_invert",
        f"loss={loss}",
        "generator=small",
        "application.steps=120",
        "application.batch_size=24",
        "application.log_every=20",
        "application.checkpoint_every=1000",
        "application.eval_samples=200",
    ]
    run(netinv_lightning.compose([*FEW_STEPS, *overrides]), path)
    return path


@pytest.fixture(scope="module")
def natural(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return inverted_by("natural", tmp_path_factory.mktemp("natural") / "run")


def content(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_healthy_run_has_no_diagnosis(natural: Path) -> None:
    """Except that after so few steps one of two networks may not recognise one class."""
    found = content(natural / "verdict.json")
    assert {finding["failure"] for finding in found["diagnosis"]} <= {"class not recognised"}
    assert found["verdict"] == CLASS_TYPICAL
    # The ceiling is read from the verifiers' cards.
    assert found["evidence"][1]["threshold"] == pytest.approx((0.1 + (0.9871 + 0.9963) / 2) / 2)
    assert "measure=full" in found["not_tested"][0]


def test_natural_images_transfer_to_unseen_networks(natural: Path, tmp_path: Path) -> None:
    """`natural` transfers much better than `inversion` after the same steps."""
    plain = inverted_by("inversion", tmp_path / "plain")
    transfer = [
        content(path / "summary.json")[names.TRANSFER_ACCURACY] for path in (natural, plain)
    ]
    assert transfer[0] > transfer[1] + 0.15
