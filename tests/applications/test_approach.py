"""Inversion towards targets other than classes, as runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from experiments.forked import run_command
from netinv_lightning import metric_names as names
from netinv_lightning.applications import approach as application
from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.run import run
from tests.applications.approach_runs import HALF, config_of, noise_of


def test_a_soft_vector_is_reached(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = run(
        config_of(HALF, "application.steps=150", "application.verifiers=[mnist_cnn]"),
        tmp_path / "run",
    )
    assert metrics[names.TARGET_ERROR] < 0.02
    assert (
        metrics[names.TARGET_ERROR_BEST]
        <= metrics[names.TARGET_ERROR]
        < 0.05 * metrics[names.TARGET_ERROR_NOISE]
    )
    assert 0 <= metrics[names.TARGET_TOTAL_VARIATION] < 0.05
    assert metrics[names.TARGET_CLOSED] == pytest.approx(
        1 - metrics[names.TARGET_ERROR] / metrics[names.TARGET_ERROR_NOISE]
    )
    assert 0 <= metrics[names.TARGET_AGREEMENT] <= 1
    assert metrics[names.TARGET_SPREAD] > 0.05
    assert metrics[names.target_error(0)] == pytest.approx(metrics[names.TARGET_ERROR])
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == metrics
    assert (
        json.loads((tmp_path / "run" / "status.json").read_text())["best_metric"]
        == metrics[names.TARGET_CLOSED]
    )

    # The saved images are the measured images; each half was made for one of the two classes.
    samples = load_file(tmp_path / "run" / "samples" / "approached.safetensors")
    assert samples["images"].shape == (3, 1, 28, 28)
    q_nN = load_zoo("mnist_mlp")(samples["images"]).softmax(dim=1)
    torch.testing.assert_close(q_nN[:, [0, 3]], torch.full((3, 2), 0.5), rtol=0, atol=0.1)
    kl_n = (samples["targets"] * (samples["targets"].clamp_min(1e-30).log() - q_nN.log())).sum(
        dim=1
    )
    torch.testing.assert_close(kl_n, samples["error"], rtol=1e-3, atol=1e-5)
    assert float(kl_n.mean()) == pytest.approx(metrics[names.TARGET_ERROR], rel=1e-3)
    assert (tmp_path / "run" / "figures" / "approached.png").is_file()

    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row[names.LOSS_TOTAL]]
    assert [int(row["step"]) for row in rows] == [20, 40, 60, 80, 100, 120, 140, 150]
    assert float(rows[-1][names.TARGET_ERROR]) < 0.1 * float(rows[0][names.TARGET_ERROR])
    assert not any(name.startswith("inversion/") for name in rows[0])
    printed = capsys.readouterr().out
    assert (
        f"soft: 1 target(s), 3 image(s) each: KL(P || Q) {metrics[names.TARGET_ERROR]:.2g}"
        in printed
    )
    assert f"uniform noise {metrics[names.TARGET_ERROR_NOISE]:.2g}" in printed


def test_class_terms_are_ignored(tmp_path: Path) -> None:
    """`loss=inversion`, the default, equals `ce_only`; the prior `variation` is not ignored."""
    images = []
    for number, loss in enumerate(
        (["loss=inversion"], ["loss=ce_only"], ["loss=inversion", "+loss.variation={weight: 0.1}"])
    ):
        run(config_of(HALF, *loss, "application.steps=5"), tmp_path / str(number))
        images.append(
            load_file(tmp_path / str(number) / "samples" / "approached.safetensors")["images"]
        )
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_several_logit_vectors_are_several_targets(tmp_path: Path) -> None:
    vector_tN = load_zoo("mnist_mlp")(noise_of(2, 1, 28, 28)) * torch.tensor([[1.0], [0.5]])
    metrics = run(
        config_of("application.target=logits", f"application.vector={vector_tN.tolist()}"),
        tmp_path / "run",
    )
    assert metrics[names.TARGET_ERROR] < 0.1
    assert names.target_error(1) in metrics
    difference = (vector_tN[0] - vector_tN[1]).norm()
    expected = float((difference / vector_tN[0].norm() + difference / vector_tN[1].norm()) / 2)
    assert metrics[names.TARGET_ERROR_UNRELATED] == pytest.approx(expected, rel=1e-3)
    assert load_file(tmp_path / "run" / "samples" / "approached.safetensors")[
        "target"
    ].tolist() == [0, 0, 0, 1, 1, 1]


def test_the_command_line(tmp_path: Path) -> None:
    """Use a recipe, and no method."""
    command = ["+experiment=mnist_invert", "application=approach", "classifier.zoo=mnist_mlp"]
    command += ["application.verifiers=[]", "application.target=soft", "application.steps=20"]
    done = run_command([*command, HALF], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "soft: 1 target(s), 5 image(s) each: KL(P || Q)" in done.stdout
    assert (tmp_path / "runs" / "latest" / "figures" / "approached.png").is_file()
    assert application.ApproachApplication.best_metric in json.loads(
        (tmp_path / "runs" / "latest" / "summary.json").read_text()
    )
