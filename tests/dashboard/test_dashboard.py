"""The W&B dashboard: runs log every key of its panels. No network or login is needed."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest
from omegaconf import OmegaConf

import netinv_lightning
from netinv_lightning import metric_names as names
from netinv_lightning.config.loss_terms import LOSS_TERMS
from netinv_lightning.interpretability.autoencoders import train_autoencoder
from netinv_lightning.ood.detectors import DETECTORS
from netinv_lightning.run import run
from tests.dashboard.view_contents import keys_of, panels_of, view
from tests.tracking.offline_runs import parts

# wandb-workspaces uses a deprecated form of pydantic models.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")

EVERYTHING = (
    "logger=wandb",
    "logger.mode=offline",
    "loss=reconstruction",
    "+loss.l1={weight: 1e-5}",
    "+loss.batch_norm={weight: 1}",
    "+loss.class_spread={weight: 1}",
    "+loss.stationarity={weight: 1}",
    "+loss.feature_spread={weight: 1}",
    "+loss.pixel_statistics={weight: 1}",
    "+loss.spectrum={weight: 1}",
    "+loss.own_prediction={weight: 0}",
    "+loss.activation={weight: 0}",
    "+loss.balance={weight: 0}",
    "+loss.contrast={weight: 0}",
    "+loss.logit={weight: 0}",
    "+loss.duality={weight: 0}",
    "+loss.batch_norm_l2={weight: 0}",
    "+loss.uncertainty={weight: 0}",
    "+loss.networks={weight: 0, networks: [mnist_cnn]}",
    "+loss.total_variation={weight: 0}",
    "+loss.pixel_norm={weight: 0}",
    "application.steps=20",
    "application.checkpoint_every=1000",
    "application.lr=0.02",
    "conditioning.vectors=hot",
    "application.verifiers=[mnist_resnet]",
    "data=mnist5k",
    "classifier.zoo=mnist_mlp",
    "interpret=full",
    "interpret.samples=200",
    "interpret.perplexities=[5]",
    "interpret.embedding_seeds=[0]",
    "interpret.embedded=50",
    "interpret.sparse_units=32",
    "interpret.sparse_active=4",
)
"""An inversion that logs everything that inversions log."""

OF_TRANSFORMERS = {names.loss("patch_similarity")}
"""What an inversion of a network without tokens cannot log."""

FEWER = {
    "interpretability.activations.MIN_SAMPLES": 2,
    "interpretability.autoencoder_analysis.MAP_SAMPLES": 60,
    "interpretability.autoencoder_analysis.MAP_UNITS": 16,
    "interpretability.autoencoder_analysis.train_autoencoder": partial(train_autoencoder, epochs=5),
    "interpretability.clusters.SURROGATES": 2,
    "metrics.detection.RESAMPLES": 2,
    "privacy.informed.STEPS": 2,
}
"""What makes the slowest parts of a study cheap."""

DETECTION = (
    "application=detect_ood",
    "logger=wandb",
    "logger.mode=offline",
    "data=mnist5k",
    "classifier.zoo=mnist_mlp",
    "application.samples=100",
    f"application.detectors=[{','.join(DETECTORS)}]",
    "garbage=noise",
    "garbage.noise.epochs=2",
    "garbage.noise.images=100",
    "garbage.noise.initial=20",
    "garbage.noise.per_class=2",
)
"""A detection run with a garbage class."""


AUDITED = (
    "application=audit",
    "application.attacks=[inversion,informed]",
    "application.known=20",
    "application.targets=5",
    "application.models=10",
    "logger=wandb",
    "logger.mode=offline",
    "data=mnist5k",
    "data.subset_size=40",
    "classifier=mlp",
    "+classifier.network={widths: [8], batch_norm: false}",
    "classifier.train=true",
    "recipe.epochs=1",
    "data.batch_size=20",
    "application.reconstructions=20",
)
"""An audit; its attack `inversion` logs what every reconstruction logs."""

USES = {
    "distilled": (
        "application=distill",
        "application.steps=10",
        "application.batch_size=8",
        "+application.student.stages=[[8],[8]]",
        "+application.student.hidden=16",
    ),
    "counterfeits": (
        "application=counterfeit",
        "application.confidence=0.1",
        "application.samples=50",
    ),
    "tuned": (
        "application=finetune",
        "application.kind=adversarial",
        "application.steps=1",
        "application.images=20",
        "application.attack_steps=1",
        "application.attacked=20",
    ),
}
"""Uses of the images of the inversion."""


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return config and summary that runs of each kind log offline, read by W&B's own reader."""
    from tests.conftest import FEW_STEPS

    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        # every run reaches this accuracy
        patch.setattr("netinv_lightning.inversion.cost.REACHED", 0.0)
        for name, fewer in FEWER.items():
            patch.setattr(f"netinv_lightning.{name}", fewer)
        run(netinv_lightning.compose([*FEW_STEPS, *EVERYTHING]), folder / "inverted")
        run(netinv_lightning.compose(list(DETECTION)), folder / "detected")
        for name, use in USES.items():
            logged_offline = (
                "data=mnist5k",
                "logger=wandb",
                "logger.mode=offline",
                f"application.run={folder}/inverted",
            )
            run(netinv_lightning.compose([*use, *logged_offline]), folder / name)
        few = ",".join(f'"{step}"' for step in (*FEW_STEPS, "application.student=true"))
        cache = f"classifier.kept_in={folder}/classifiers"
        run(
            netinv_lightning.compose([*AUDITED, cache, f"application.overrides=[{few}]"]),
            folder / "audited",
        )
    runs = ("inverted", "detected", "audited", "audited/attacks/inversion", *USES)
    content = [only for name in runs for only in parts(folder / name)]
    return {
        "config": content[0]["config"],
        "summary": {key: value for run in content for key, value in run["summary"].items()},
    }


def patterns(view: dict[str, Any]) -> list[str]:
    """Return the regular expressions of panels for metrics whose names users choose."""
    return [
        panel["config"]["metricRegex"]
        for panel in panels_of(view)
        if panel["config"].get("useMetricRegex")
    ]


def missing(view: dict[str, Any], logged: dict[str, Any]) -> set[str]:
    """Return the keys of a view that the run did not log."""
    metrics, keys = keys_of(view)
    absent = metrics - logged["summary"].keys()
    absent |= {
        pattern
        for pattern in patterns(view)
        if not any(re.search(pattern, name) for name in logged["summary"])
    }
    for key in keys:
        group, _, rest = key.partition(".value")
        if OmegaConf.select(OmegaConf.create(logged["config"]), group + rest) is None:
            absent.add(key)
    return absent


def test_runs_log_every_key_of_every_panel(logged: dict[str, Any]) -> None:
    content = view()
    metrics, keys = keys_of(content)
    assert names.SAMPLES_TABLE in metrics  # found inside the query
    assert "conditioning.value.mode" in keys
    assert missing(content, logged) == OF_TRANSFORMERS


@pytest.mark.parametrize(
    ("constant", "old"),
    [
        ("INVERSION_ACCURACY", "inversion/accuracy"),
        ("SAMPLES_GRID", "samples/grid"),
        ("SAMPLES_TABLE", "samples/table"),
        ("STEP", "trainer/global_step"),
        ("CLUSTERS", "interpretation/clusters"),
        ("OOD_MEAN_AUROC", "ood/best/mean/auroc"),
    ],
)
def test_a_renamed_metric_is_reported_missing(
    logged: dict[str, Any], monkeypatch: pytest.MonkeyPatch, constant: str, old: str
) -> None:
    assert getattr(names, constant) == old
    monkeypatch.setattr(names, constant, "renamed/metric")
    assert "renamed/metric" in missing(view(), logged)


def test_a_renamed_config_key_or_term_is_reported_missing(
    logged: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netinv_lightning.dashboard.panels.COMPARED", ("conditioning.kind",))
    monkeypatch.setattr("netinv_lightning.config.loss_terms.LOSS_TERMS", {"colour": None})
    assert missing(view(), logged) == {"conditioning.value.kind", "loss/colour"}


def test_sections_and_panels() -> None:
    content = view()
    sections = {
        section["name"]: [panel["viewType"] for panel in section["panels"]]
        for section in content["panelBankConfig"]["sections"]
    }
    assert [
        section["name"] for section in content["panelBankConfig"]["sections"] if section["isOpen"]
    ] == ["Inversion accuracy", "Loss terms", "Samples", "Sweep comparison", "Cost"]
    line, bar, scalar, scatter = (
        "Run History Line Plot",
        "Bar Chart",
        "Scalar Chart",
        "Scatter Plot",
    )
    # Every term, their total, and the excess of orthogonality
    assert sections == {
        "Inversion accuracy": [line, scalar, scalar, scatter, bar, bar, bar, bar, bar],
        "Loss terms": [line] * (len(LOSS_TERMS) + 2),
        "Samples": ["Media Browser", "Media Browser", "Weave"],
        "Interpretability": ["Media Browser", bar, bar, bar, bar, bar],
        "Out-of-distribution": [
            "Media Browser",
            scalar,
            bar,
            bar,
            bar,
            bar,
            bar,
            bar,
            line,
            line,
            line,
        ],
        "Reconstruction": ["Media Browser", bar, bar, bar, scatter, bar],
        "Uses of inverted data": ["Media Browser", bar, line, bar, bar, bar, bar],
        "Sweep comparison": [
            "Parallel Coordinates Plot",
            "Parameter Importance",
            bar,
            "Run Comparer",
        ],
        "Cost": [bar, bar, bar, bar, scatter],
    }
    assert all(
        panel["config"]["xAxis"] == names.STEP
        for panel in panels_of(content)
        if panel["viewType"] == line
    )


def test_panels_compare_all_detectors() -> None:
    metrics, _ = keys_of(view())
    assert {names.ood(name, "mean", "auroc") for name in DETECTORS} <= metrics
    assert {names.figure(stem) for stem in ("detection", "roc", "confidence")} <= metrics


def test_garbage_classes_are_found_under_any_name(
    logged: dict[str, Any],
) -> None:
    of_garbage = [
        names.garbage(name, what)
        for name in ("inverted", "two_parts")
        for what in ("images", "loss")
    ]
    (images,) = [pattern for pattern in patterns(view()) if "images" in pattern]
    assert [name for name in of_garbage if re.search(images, name)] == [
        "garbage/inverted/images",
        "garbage/two_parts/images",
    ]
    without = {
        name: value for name, value in logged["summary"].items() if not name.startswith("garbage/")
    }
    assert missing(view(), {**logged, "summary": without}) == {*patterns(view()), *OF_TRANSFORMERS}


def test_accuracy_per_class_lists_the_classes_of_the_data() -> None:
    metrics, _ = keys_of(view(data="cifar10"))
    assert names.class_accuracy("airplane") in metrics
    assert names.class_accuracy("0") not in metrics
