"""Inversions that are measured at once: `measure=quick` and `measure=full`."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from netinv_lightning import metric_names as names
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.report import last_losses
from netinv_lightning.run import run
from tests.applications.measured_runs import DATA, FEW_METRICS, measured_sets

Compose = Callable[..., DictConfig]


def test_without_data_some_metrics_are_skipped_and_listed(
    compose: Compose, job_dir: Path, tmp_path: Path
) -> None:
    """At the end of an inversion, such metrics are neither 0 nor silently missing."""
    cfg = compose(
        "measure=full",
        f"data.root={tmp_path / 'none'}",
        "application.verifiers=[mnist_mlp]",
        "application.eval_samples=150",
    )
    cfg.measure.controls = ["noise", "class_means", "real"]
    metrics = run(cfg, job_dir)
    assert list(measured_sets(job_dir)) == ["inverted", "noise"]
    assert names.TRANSFER_CEILING not in metrics
    assert not any(
        name.startswith(("fidelity/fid", names.CAS, "memorisation/")) for name in metrics
    )
    text = (job_dir / "measurement.md").read_text()
    for what in ("baseline real", "baseline class_means", "fid", "cas", "manifold"):
        assert f"- skipped: {what}: no real" in text


@pytest.mark.parametrize("full", [False, True])
def test_a_quick_run_has_a_verdict_but_no_table(
    compose: Compose, job_dir: Path, full: bool
) -> None:
    cfg = compose(*DATA, "application.verifiers=[mnist_mlp]", f"measure.full={full}", *FEW_METRICS)
    run(cfg, job_dir)
    assert (job_dir / "verdict.json").exists()
    assert (job_dir / "measurement.csv").exists() == full
    last = last_losses(job_dir)
    assert last.keys() >= {names.loss("kl"), names.LOSS_TOTAL, names.excess("orthogonality")}
    with (job_dir / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row[names.LOSS_TOTAL]]
    assert last[names.LOSS_TOTAL] == float(rows[-1][names.LOSS_TOTAL])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["application.verifiers=[mnist_cnn]"],
            r"verifiers=mnist_cnn: is the classifier that is inverted",
        ),
        (["measure.controls=[gradients]"], r"did you mean 'gradient'\?"),
        (
            ["measure=full", "measure.samples=20", "application.verifiers=[mnist_mlp]", *DATA],
            r"measure.samples=20: too few .* need \d+",
        ),
    ],
)
def test_an_inversion_is_refused_before_it_starts(
    compose: Compose, job_dir: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(compose(*overrides), job_dir)
    assert not job_dir.exists()
