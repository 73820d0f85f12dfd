"""A run in this process, from the composed config to the run directory."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file

import netinv_lightning
from netinv_lightning import metric_names as names
from netinv_lightning.applications.invert import InvertApplication
from netinv_lightning.data import datamodule as data_module
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.inversion_accuracy import evaluate
from netinv_lightning.inversion.base import NonFiniteError
from netinv_lightning.inversion.build import make_module
from netinv_lightning.run import run
from netinv_lightning.runs.run_directory import RunDir

Compose = Callable[..., DictConfig]
QUIET = ("application.grid_every=1000", "application.checkpoint_every=1000")


def test_run_directory_has_the_documented_files(compose: Compose, job_dir: Path) -> None:
    metrics = run(
        compose("seed=3", "application.verifiers=[mnist_mlp]", "application.grid_every=4"), job_dir
    )

    status = json.loads((job_dir / "status.json").read_text())
    assert status["state"] == "done"
    assert status["error"] is None
    assert status["best_metric"] == metrics[names.TRANSFER_ACCURACY]
    assert status["best_metric_name"] == names.TRANSFER_ACCURACY
    assert json.loads((job_dir / "summary.json").read_text()) == metrics
    assert all(isinstance(value, (int, float)) for value in metrics.values())
    assert {
        names.INVERSION_ACCURACY,
        names.INVERSION_ACCURACY_HOT,
        names.TRANSFER_ACCURACY,
        names.INVERSION_KL,
    } <= metrics.keys()
    assert {
        names.SECONDS,
        names.IMAGES_PER_SECOND,
        names.PEAK_MEMORY_MB,
        names.INTRA_CLASS_COSINE,
    } <= metrics.keys()

    environment = json.loads((job_dir / "environment.json").read_text())
    assert (
        environment["versions"]["torch"] == torch.__version__.split("+")[0]
        or environment["versions"]["torch"] == torch.__version__
    )
    assert "seed: 3" in (job_dir / "config.yaml").read_text()
    assert "${" not in (job_dir / "config.yaml").read_text()
    assert (job_dir.parent.parent / "latest").resolve() == job_dir
    assert {path.name for path in (job_dir / "figures").iterdir()} == {
        "grid.png", "grid_step000004.png", "grid_step000008.png", "confusion.png",
    }  # fmt: skip

    samples = load_file(job_dir / "samples" / "inverted.safetensors")
    assert samples["images"].shape == (16, 1, 28, 28)
    assert 0 <= samples["images"].min() <= samples["images"].max() <= 1
    assert torch.equal(samples["conditioning"].argmax(dim=1), samples["labels"])

    with (job_dir / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row[names.LOSS_TOTAL]]
    assert len(rows) == 4  # 8 steps, a row for every second step
    # The 8 images per step are fewer than the 64 features, so orthogonality can reach 0.
    assert [row[names.excess("orthogonality")] for row in rows] == [
        row[names.loss("orthogonality")] for row in rows
    ]
    for row in rows:  # all weights are 1, so the total is the sum of the terms
        terms = sum(
            float(row[names.loss(term)]) for term in ("kl", "ce", "cosine", "orthogonality")
        )
        assert float(row[names.LOSS_TOTAL]) == pytest.approx(terms, rel=1e-4)


def test_only_the_generator_changes(compose: Compose, job_dir: Path) -> None:
    """The classifier is bit-identical after a run, whereas the generator has changed."""
    application = InvertApplication(compose("loss=reconstruction"))
    classifier = {
        name: value.clone() for name, value in application.module.classifier.state_dict().items()
    }
    generator = {
        name: value.clone() for name, value in application.module.generator.state_dict().items()
    }
    run_dir = RunDir(job_dir)
    with run_dir.open(application.cfg):
        application.run(run_dir)
    assert all(
        torch.equal(classifier[name], value)
        for name, value in application.module.classifier.state_dict().items()
    )
    assert all(
        not torch.equal(generator[name], value)
        for name, value in application.module.generator.named_parameters()
    )
    saved = torch.load(job_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert not any("classifier" in name for name in saved)


def test_no_data_set_is_opened(
    compose: Compose, job_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An inversion never reads the training data."""

    def opened(*args: object, **kwargs: object) -> None:
        raise AssertionError("inversion opened a data set")

    monkeypatch.setattr(data_module.ImageDataModule, "__init__", opened)
    run(compose(), job_dir)


def test_images_depend_on_the_seed_only(compose: Compose, tmp_path: Path) -> None:
    images = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(compose(f"seed={seed}", *QUIET), tmp_path / name)
        images.append(load_file(tmp_path / name / "samples" / "inverted.safetensors")["images"])
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


@pytest.mark.parametrize("mode", ["label", "vector", "matrix", "vector_matrix"])
def test_every_conditioning_learns_mnist(compose: Compose, job_dir: Path, mode: str) -> None:
    """After 80 steps of a tiny generator the accuracy is at least 0.5, five times chance."""
    metrics = run(
        compose(
            "classifier.zoo=mnist_mlp",
            f"conditioning={mode}",
            "application.steps=80",
            "application.batch_size=32",
            *QUIET,
        ),
        job_dir,
    )
    assert metrics[names.INVERSION_ACCURACY] > 0.5


@pytest.mark.parametrize(
    "loss", ["inversion_abstract", "inversion", "reconstruction", "ce_only", "reference"]
)
def test_every_objective_runs_and_logs_its_terms(
    compose: Compose, job_dir: Path, loss: str
) -> None:
    cfg = compose(f"loss={loss}", "application.steps=2", "application.log_every=1")
    run(cfg, job_dir)
    header = (job_dir / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {names.loss(str(term)) for term in cfg.loss} | {names.LOSS_TOTAL} <= set(header)


def test_config_adds_and_removes_terms(compose: Compose) -> None:
    cfg = compose("~loss.cosine", "+loss.variation={weight: 0.5}", "loss.kl.weight=3")
    assert make_module(cfg).objective.weights == {
        "kl": 3.0,
        "ce": 1.0,
        "orthogonality": 1.0,
        "variation": 0.5,
    }


def test_non_finite_value_names_step_term_and_checkpoint(
    compose: Compose, job_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from netinv_lightning.inversion import losses

    calls = {"count": 0}
    variation = losses.variation

    def breaks_at_step_7(x_BCHW: torch.Tensor) -> torch.Tensor:
        calls["count"] += 1
        return variation(x_BCHW) * (float("nan") if calls["count"] == 7 else 1.0)

    monkeypatch.setattr(losses, "variation", breaks_at_step_7)
    with pytest.raises(
        NonFiniteError,
        match=r"loss/variation, loss/total is not finite at step 6; the last good .* is .*ckpt",
    ):
        run(compose("+loss.variation={weight: 1.0}"), job_dir)
    status = json.loads((job_dir / "status.json").read_text())
    assert status["state"] == "failed"
    assert "loss/variation" in status["error"]
    assert "Traceback" in (job_dir / "run.log").read_text()
    assert not (job_dir / "summary.json").exists()


def test_load_run_gives_the_trained_generator(compose: Compose, job_dir: Path) -> None:
    metrics = run(compose("application.sampling_dropout=false"), job_dir)
    loaded = netinv_lightning.load_run(job_dir)
    again, confusion_NN = evaluate(loaded.module, 64, 32, seed=0)
    assert again[names.INVERSION_ACCURACY] == metrics[names.INVERSION_ACCURACY]
    assert confusion_NN.sum() == 64
    assert confusion_NN.diagonal().sum() / 64 == metrics[names.INVERSION_ACCURACY]
    assert again[names.INVERSION_KL] == pytest.approx(metrics[names.INVERSION_KL], rel=1e-4)
    assert loaded.sample([3, 7], seed=0).shape == (2, 1, 28, 28)


def test_a_used_directory_is_refused(compose: Compose, job_dir: Path) -> None:
    run(compose("application.steps=2"), job_dir)
    before = (job_dir / "status.json").read_text()
    with pytest.raises(InputError, match="already contains a run"):
        run(compose(), job_dir)
    assert (job_dir / "status.json").read_text() == before


def test_foreign_code_in_a_run_directory_is_refused(compose: Compose, job_dir: Path) -> None:
    run(compose("application.steps=2", "application.checkpoint_every=2"), job_dir)
    config = job_dir / "config.yaml"
    config.write_text(
        config.read_text().replace(
            "network: null", "network:\n    _target_: os.system\n    command: touch hacked"
        )
    )
    with pytest.raises(
        InputError, match=r"classifier.network._target_=os.system is outside the allow-list"
    ):
        netinv_lightning.load_run(job_dir)


def test_a_config_of_another_version_gives_one_line(compose: Compose, job_dir: Path) -> None:
    job_dir.mkdir(parents=True)
    OmegaConf.save(compose(), job_dir / "config.yaml")
    with (job_dir / "config.yaml").open("a") as config:
        config.write("of_tomorrow: 1\n")
    with pytest.raises(
        InputError,
        match=r"config\.yaml: is not the config of a run of this version \(Key 'of_tomorrow' .*$",
    ) as refused:
        netinv_lightning.load_run(job_dir)
    assert "\n" not in str(refused.value)


def test_costs_of_a_resumed_run_include_all_its_processes(compose: Compose, job_dir: Path) -> None:
    before = run(compose(), job_dir)
    after = run(compose("application.steps=12"), job_dir, resuming=True)
    assert after[names.TRAINING_SECONDS] > before[names.TRAINING_SECONDS]
    assert after[names.SECONDS] > after[names.TRAINING_SECONDS]
