"""Runs of `method=gradient`: files, costs, seeds, interruption and invalid values."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from safetensors.torch import load_file
from torch import Tensor

import netinv_lightning
from netinv_lightning import metric_names as names
from netinv_lightning.applications import make_application
from netinv_lightning.applications.invert import InvertApplication
from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.errors import InputError
from netinv_lightning.inversion import losses
from netinv_lightning.inversion.base import NonFiniteError
from netinv_lightning.inversion.methods.gradient import PixelInversion
from netinv_lightning.run import run
from netinv_lightning.training.seeds import own_randomness

Compose = Callable[..., DictConfig]
CPU = torch.device("cpu")
TWENTY = (
    "application.eval_samples=20",
    "application.eval_batch_size=20",
    "application.keep_samples=20",
)
GRADIENT = ("method=gradient", "method.steps=3", "classifier.zoo=mnist_mlp", *TWENTY)
FORWARDS, BACKWARDS = names.CLASSIFIER_FORWARDS, names.CLASSIFIER_BACKWARDS


def rows_of(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_fewer_images_are_drawn_by_default() -> None:
    cfg = netinv_lightning.compose(["+experiment=mnist_invert", "method=gradient"])
    assert (cfg.application.eval_samples, cfg.application.keep_samples) == (500, 500)
    cfg = netinv_lightning.compose(
        ["+experiment=mnist_invert", "application.eval_samples=70", "method=gradient"]
    )
    assert (cfg.application.eval_samples, cfg.application.keep_samples) == (70, 70)
    # A generator's number of steps is application.steps.
    with pytest.raises(
        InputError,
        match=r"^method.steps: is a key of method=gradient, method=kkt, .* and method=\w+; choose",
    ):
        netinv_lightning.compose(["method.steps=5"])


def test_a_run_writes_the_same_files_and_metrics_as_a_generator(
    compose: Compose, tmp_path: Path
) -> None:
    networks = ("classifier.zoo=mnist_mlp", "application.verifiers=[mnist_cnn]")
    trained = run(compose(*TWENTY, *networks), tmp_path / "generator")
    metrics = run(compose(*GRADIENT, *networks), tmp_path / "gradient")
    assert set(trained) - set(metrics) == {names.GENERATOR_PARAMETERS}
    assert set(metrics) <= set(trained)
    assert json.loads((tmp_path / "gradient" / "summary.json").read_text()) == metrics
    status = json.loads((tmp_path / "gradient" / "status.json").read_text())
    assert (status["state"], status["best_metric"]) == ("done", metrics[names.TRANSFER_ACCURACY])
    made = {path.name for path in (tmp_path / "gradient").rglob("*") if path.is_file()}
    assert {
        "config.yaml",
        "environment.json",
        "metrics.csv",
        "run.log",
        "inverted.safetensors",
        "grid.png",
        "confusion.png",
    } <= made

    # The saved images are the measured images.
    samples = load_file(tmp_path / "gradient" / "samples" / "inverted.safetensors")
    assert samples["images"].shape == (20, 1, 28, 28)
    predicted_B = load_zoo("mnist_mlp")(samples["images"]).argmax(dim=1)
    assert float((predicted_B == samples["labels"]).double().mean()) == pytest.approx(
        metrics[names.INVERSION_ACCURACY]
    )


def test_costs_equal_those_counted_by_hand(compose: Compose, tmp_path: Path) -> None:
    """Compare the costs with numbers counted by hand.

    The pixel inversion makes 20 soft and 20 hot images for measurement, with 3 steps each. The
    generator trains for 8 steps of 8 images.
    """
    pixels = run(compose(*GRADIENT), tmp_path / "gradient")
    assert (pixels[FORWARDS], pixels[BACKWARDS]) == (3 * 40, 3 * 40)
    assert pixels[names.IMAGES_PER_SECOND] == pytest.approx(3 * 40 / pixels[names.TRAINING_SECONDS])
    mlp = "classifier.zoo=mnist_mlp"
    one = run(compose(mlp), tmp_path / "one")
    assert (one[FORWARDS], one[BACKWARDS]) == (64, 64)
    # Two threads, each with its own copy of the classifier
    two = run(compose(mlp, "n_generators=2", "loss=reconstruction"), tmp_path / "two")
    # Each step classifies the images and the perturbed images, and takes the gradient norm.
    assert (two[FORWARDS], two[BACKWARDS]) == (
        2 * 3 * 64,
        2 * 3 * 64,
    )
    longer = run(compose(mlp, "application.steps=12"), tmp_path / "one", resuming=True)
    assert (longer[FORWARDS], longer[BACKWARDS]) == (96, 96)


def test_steps_to_95_refer_to_the_first_batch(compose: Compose, job_dir: Path) -> None:
    cnn = "classifier.zoo=mnist_cnn"
    metrics = run(compose(*GRADIENT, cnn, "method.steps=40", "loss=ce_only"), job_dir)
    rows = [row for row in rows_of(job_dir) if row[names.LOSS_TOTAL]]
    # Each value is the mean of 2 steps.
    accuracies = [float(row[names.INVERSION_ACCURACY_TRAIN]) for row in rows]
    assert [int(row["step"]) for row in rows] == list(range(2, 41, 2))
    held = next(2 * k for k in range(5, 21) if sum(accuracies[k - 5 : k]) / 5 >= 0.95)
    assert metrics[names.STEPS_TO_95] in (held - 1, held)
    assert 0 < metrics[names.SECONDS_TO_95] < metrics[names.TRAINING_SECONDS]
    assert [float(row[names.LOSS_TOTAL]) for row in rows] == pytest.approx(
        [float(row[names.loss("ce")]) for row in rows]
    )
    assert float(rows[-1][names.LOSS_TOTAL]) < 0.1 * float(rows[0][names.LOSS_TOTAL])


def test_equal_seeds_give_equal_images(compose: Compose, tmp_path: Path) -> None:
    images = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(
            compose(*GRADIENT, f"seed={seed}", "method.jitter=2", "method.parametrisation=fourier"),
            tmp_path / name,
        )
        images.append(load_file(tmp_path / name / "samples" / "inverted.safetensors")["images"])
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_an_interrupted_run_starts_again(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = (*GRADIENT, "+loss.variation={weight: 0.01}", "application.log_every=1")
    whole = run(compose(*overrides), tmp_path / "whole")
    variation, calls = losses.variation, []

    def breaks_in_the_second_batch(x_BCHW: Tensor) -> Tensor:
        calls.append(1)
        return variation(x_BCHW) * (math.nan if len(calls) == 5 else 1.0)

    with monkeypatch.context() as patched:
        patched.setattr(losses, "variation", breaks_in_the_second_batch)
        with pytest.raises(
            NonFiniteError, match="loss/variation, loss/total is not finite at step 2 of batch 2"
        ):
            run(compose(*overrides), tmp_path / "broken")
    assert json.loads((tmp_path / "broken" / "status.json").read_text())["state"] == "failed"

    again = run(compose(*overrides), tmp_path / "broken", resuming=True)
    assert json.loads((tmp_path / "broken" / "status.json").read_text())["state"] == "done"
    differing = {
        names.SECONDS,
        names.TRAINING_SECONDS,
        names.IMAGES_PER_SECOND,
        names.PEAK_MEMORY_MB,
    }
    assert {name: again[name] for name in again.keys() - differing} == {
        name: whole[name] for name in whole.keys() - differing
    }
    assert [row["step"] for row in rows_of(tmp_path / "broken")] == [
        row["step"] for row in rows_of(tmp_path / "whole")
    ]


def test_trainer_max_steps_limits_the_steps(compose: Compose) -> None:
    """+debug=fast relies on this limit for both methods."""
    module = InvertApplication(compose("method=gradient", "+debug=fast")).module
    assert isinstance(module, PixelInversion)
    assert module.steps == 4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["n_generators=2"], r"^n_generators=2: method=gradient has no generator"),
        (["trainer=ddp"], r"^trainer.devices=2: method=gradient runs in one process only"),
        (
            ["loss=reference"],
            r"^loss.l1: penalises the weights of a generator, .*Leave it out: ~loss.l1$",
        ),
        (["method.name=gradients"], r"^method.name=gradients: did you mean 'gradient'\?"),
        (["method.steps=0"], r"^method.steps=0: must be 1 or more$"),
        (["method.lr=0"], r"^method.lr=0.0: must be above 0$"),
        (["method.lr=inf"], r"^method.lr=inf: must be a finite number$"),
        (["method.init_std=-1"], r"^method.init_std=-1.0: must be 0 or more$"),
        (
            ["method.jitter=28"],
            r"^method.jitter=28: must be 0 or more, and below the image's 28 pixels$",
        ),
        (
            ["method.parametrisation=wavelet"],
            r"^method.parametrisation=wavelet: choose from: fourier, normalised, .*phase, pixel$",
        ),
        (["conditioning.temperature=0"], r"^conditioning.temperature=0.0: must be above 0$"),
    ],
)
def test_invalid_values_are_refused(
    compose: Compose, job_dir: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(compose("method=gradient", *overrides), job_dir)
    assert not job_dir.exists()


def test_loss_terms_get_images_within_the_pixel_range(compose: Compose) -> None:
    """The sigmoid keeps the papers' pixel-range term at 0."""
    application = make_application(compose(*GRADIENT, "+loss.pixel={weight: 1}"))
    assert isinstance(application, InvertApplication)
    seen: list[float] = []
    assert isinstance(application.module, PixelInversion)
    application.module.report = lambda batch, step, values: seen.append(values[names.loss("pixel")])
    with own_randomness(0, CPU):
        application.module.draw(application.module.conditioning.sample(4))
    assert seen == [0.0, 0.0]  # after steps 2 and 3
