"""Applications without a training start again in place if they are resumed.

Stopped at its last figure and resumed, a run leaves the same files as an uninterrupted run.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

import netinv_lightning
from experiments.run_results import differences, result
from netinv_lightning.errors import Preempted
from netinv_lightning.run import run
from netinv_lightning.runs.resume import resumed_config

DIGITS = ["data=mnist5k", "classifier.zoo=mnist_mlp"]
HALF = "application.vector=[.5,0,0,.5,0,0,0,0,0,0]"
COMMANDS = {
    "counterfeit": (
        ["application.samples=40", "application.confidence=0.1"],
        "applications.counterfeit.counterfeit_grid",
    ),
    "measure": (
        ["measure.samples=20", "measure.metrics=[diversity]", "measure.controls=[]"],
        "evaluation.report.Report.__call__",
    ),
    "interpret": (
        [
            "interpret.samples=100",
            "interpret.analyses=[projection]",
            "interpret.perplexities=[5]",
            "interpret.embedding_seeds=[0]",
            "interpret.embedded=40",
        ],
        "interpretability.study.FeatureStudy.__call__",
    ),
    "approach": (
        [HALF, "application.steps=3", "application.images=2", *DIGITS],
        "evaluation.target_result.image_grid",
    ),
}
"""Overrides of each application, and the late function at which it is stopped."""


@pytest.mark.parametrize("application", COMMANDS)
def test_a_stopped_and_resumed_application_leaves_the_same(
    application: str, inverted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides, late = COMMANDS[application]
    given = [] if application == "approach" else [f"application.run={inverted}"]

    def config() -> DictConfig:
        return netinv_lightning.compose([f"application={application}", *given, *overrides])

    def stop(*args: Any, **keys: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)  # the signal arrives here

    run(config(), tmp_path / "whole")
    broken = tmp_path / "broken"
    with monkeypatch.context() as patch:
        patch.setattr(f"netinv_lightning.{late}", stop)
        with pytest.raises(Preempted, match=rf"stopped by SIGTERM; continue with resume={broken}$"):
            run(config(), broken)
    (broken / "summary.json.partial").write_text("half written")
    resume = [f"resume={broken}"]
    run(resumed_config(netinv_lightning.compose(resume), resume), broken, resuming=True)
    assert list(differences(result(tmp_path / "whole"), result(broken))) == []
    assert not [*broken.rglob("*.partial")]
