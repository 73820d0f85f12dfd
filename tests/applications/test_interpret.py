"""`application=interpret` on real digits: numbers, figures, repeatability, invalid input."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from omegaconf import DictConfig
from safetensors.torch import load_file

import netinv_lightning
from experiments.forked import run_command
from netinv_lightning import metric_names as names
from netinv_lightning.dashboard.figure_groups import INTERPRETABILITY
from netinv_lightning.errors import InputError
from netinv_lightning.interpretability import (
    activations,
    autoencoder_analysis,
    clusters,
    rule_analysis,
)
from netinv_lightning.interpretability.autoencoders import train_autoencoder
from netinv_lightning.inversion.methods.gradient import PixelInversion
from netinv_lightning.metric_names import interpretation
from netinv_lightning.metrics import detection
from netinv_lightning.run import run
from tests.conftest import FEW_STEPS
from tests.figure_contents import not_rendered

Compose = Callable[..., DictConfig]

SMALL = [
    "interpret.samples=200",
    "interpret.perplexities=[5,8]",
    "interpret.embedding_seeds=[0,1]",
    "interpret.embedded=60",
    "interpret.sparse_units=40",
    "interpret.sparse_active=4",
]
DIGITS = ["data=mnist5k", "classifier.zoo=mnist_cnn"]
FIGURES = set(INTERPRETABILITY)


@contextmanager
def small_study() -> Iterator[None]:
    """Context in which a study is cheap, and compares generators by few images of a class."""
    with pytest.MonkeyPatch.context() as patch, not_rendered():
        patch.setattr(activations, "MIN_SAMPLES", 2)
        patch.setattr(autoencoder_analysis, "MAP_SAMPLES", 60)
        patch.setattr(autoencoder_analysis, "MAP_UNITS", 16)
        train_briefly = partial(train_autoencoder, epochs=10)
        patch.setattr(autoencoder_analysis, "train_autoencoder", train_briefly)
        patch.setattr(clusters, "SURROGATES", 2)
        patch.setattr(detection, "RESAMPLES", 200)
        patch.setattr(rule_analysis, "PAIRS", {"features": 3, "pixels": 1})
        yield


@pytest.fixture(scope="module")
def inverted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of an inversion with two generators and all analyses.

    It has images of all classes. Its data are part of the installation.
    """
    folder = tmp_path_factory.mktemp("run") / "inverted"
    trained = [
        "application.steps=50",
        "application.batch_size=20",
        "application.checkpoint_every=1000",
        "loss=natural",
        "n_generators=2",
    ]
    overrides = [*FEW_STEPS, *DIGITS, *SMALL, *trained, "interpret=full"]
    with small_study():
        run(netinv_lightning.compose(overrides), folder)
    return folder


def summary(folder: Path) -> dict[str, float]:
    content: dict[str, float] = json.loads((folder / "summary.json").read_text())
    return content


def numbers(folder: Path) -> dict[str, float]:
    """Return the results of the analyses, without their costs."""
    return {
        name: value
        for name, value in summary(folder).items()
        if name.startswith("interpretation/") and "/seconds/" not in name
    }


def test_numbers_agree_with_each_other(inverted: Path) -> None:
    found = numbers(inverted)
    of_classes = [
        value
        for name, value in found.items()
        if name.startswith(interpretation("clusters_class", ""))
    ]
    assert found[names.CLUSTERS] == pytest.approx(sum(of_classes) / len(of_classes))
    # The plane may assign all samples to one of ten balanced classes.
    assert found[interpretation("agreement_of_chance", "test")] <= 0.2
    for origin in ("training", "test", "inverted"):
        assert found[interpretation("sparse", "active", origin)] <= 4
    assert 0 < found[interpretation("overlap", "between_generators")] <= 1
    for score in ("reconstruction", "pattern", "regression"):
        auc, low, high = (
            found[interpretation("anomaly", score, what)] for what in ("auc", "auc_low", "auc_high")
        )
        assert low <= auc <= high
    assert (
        found[interpretation("rules", "features_rest", "fidelity", "test")]
        > found[interpretation("rules", "features_rest", "fidelity_majority", "test")]
    )
    with (inverted / "interpretation.csv").open() as file:
        written = {
            f"interpretation/{row['number']}": float(row["value"]) for row in csv.DictReader(file)
        }
    assert {name: value for name, value in written.items() if "/seconds/" not in name} == found
    title, _, *sentences = (inverted / "interpretation.md").read_text().splitlines()
    clusters = f"A class has {found[names.CLUSTERS]:.1f} clusters on average"
    assert title.startswith("# Feature study")
    assert [line for line in sentences if line.startswith(f"- {clusters}")]
    assert len([line for line in sentences if "control" in line or "halves" in line]) >= 3
    hyperplanes = load_file(inverted / "rules.safetensors")
    assert hyperplanes["pixels_rest/normals"].shape == (
        len(hyperplanes["pixels_rest/offsets"]),
        784,
    )
    assert "class 3 if h" in (inverted / "rules.txt").read_text()


def test_each_figure_is_a_png_and_a_pdf(inverted: Path) -> None:
    files = {
        path.name
        for path in (inverted / "figures").iterdir()
        if "grid" not in path.name and path.name != "confusion.png"
    }
    assert files == {f"{stem}.{kind}" for stem in FIGURES for kind in ("png", "pdf")}


def test_analysing_a_finished_run_later_gives_the_same_numbers(
    inverted: Path, tmp_path: Path
) -> None:
    command = ["application=interpret", f"application.run={inverted}", *SMALL]
    done = run_command(command, cwd=tmp_path, within=small_study)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.splitlines()[-1])
    assert numbers(folder) == numbers(inverted)
    assert "analysis 2 of 4: clusters" in done.stderr
    assert (
        json.loads((folder / "status.json").read_text())["best_metric"]
        == numbers(inverted)[names.CLUSTERS]
    )


def test_without_real_images_only_inverted_ones_are_analysed(
    tmp_path: Path, compose: Compose
) -> None:
    trained = ["classifier.zoo=mnist_mlp", "application.steps=40", "application.batch_size=20"]
    studied = ["interpret=full", "interpret.analyses=[projection,autoencoders]"]
    run(compose(*SMALL, *trained, *studied, "data.root=nowhere"), tmp_path / "alone")
    found = numbers(tmp_path / "alone")
    assert interpretation("agreement", "inverted") in found
    assert not [name for name in found if name.endswith("/test") or "/anomaly/" in name]
    assert (
        "without real images: no real data"
        in (tmp_path / "alone" / "interpretation.md").read_text()
    )


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["interpret.perplexities=[30]"],
            r"interpret.perplexities=30: must be from 1 to below 20, a third of the 60 samples",
        ),
        (["interpret.embedded=20"], r"interpret.embedded=20: must be more than 20"),
        (["interpret.samples=50"], r"interpret.samples=50: must be 100 or more"),
        (["interpret.analyses=[tsne]"], r"interpret.analyses=tsne: .*projection"),
        (
            ["interpret.layer=convolution"],
            r"interpret.layer=convolution: the network has no such layer",
        ),
        (["interpret.map_layer=head"], r"interpret.map_layer=head: has no maps of 2 x 2 or more"),
        (["interpret.sparse_active=41"], r"interpret.sparse_active=41"),
        (
            ["classifier.zoo=mnist_mlp"],
            r"classifier.zoo=mnist_mlp: the run inverted another classifier, mnist_cnn. "
            r"Remove classifier.zoo",
        ),
        (
            ["classifier.path=mine.safetensors"],
            r"classifier.path=mine.safetensors: the run inverted another classifier, mnist_cnn. "
            r"Remove classifier.path",
        ),
    ],
)
def test_invalid_input_gives_one_line_and_writes_nothing(
    inverted: Path, tmp_path: Path, overrides: list[str], line: str
) -> None:
    with pytest.raises(InputError, match=line) as refused:
        run(
            netinv_lightning.compose(
                ["application=interpret", f"application.run={inverted}", *SMALL, *overrides]
            ),
            tmp_path / "refused",
        )
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "refused").exists()


def test_only_finished_inversions_are_accepted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"application\.run: is missing. Give the directory"):
        run(netinv_lightning.compose(["application=interpret"]), tmp_path / "refused")
    with pytest.raises(InputError, match="is not a run directory"):
        run(
            netinv_lightning.compose(["application=interpret", f"application.run={tmp_path}"]),
            tmp_path / "refused",
        )


def test_a_gradient_run_is_analysed_on_its_saved_images(compose: Compose, tmp_path: Path) -> None:
    gradient = compose(
        "classifier.zoo=mnist_mlp",
        "method=gradient",
        "method.steps=20",
        "method.lr=0.1",
        "application.eval_samples=120",
        "application.keep_samples=120",
    )
    run(gradient, tmp_path / "gradient")
    of_run = [
        "application=interpret",
        f"application.run={tmp_path / 'gradient'}",
        "interpret.analyses=[projection]",
        "data.root=nowhere",
    ]
    found = run(netinv_lightning.compose(of_run), tmp_path / "studied")
    assert interpretation("agreement", "inverted") in found
    with pytest.raises(InputError, match=r"interpret.samples=121: there are 120 images"):
        run(netinv_lightning.compose([*of_run, "interpret.samples=121"]), tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    assert isinstance(netinv_lightning.load_run(tmp_path / "gradient").module, PixelInversion)
