"""A cache of classifiers in a temporary folder, and a small classifier that is trained in it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

import netinv_lightning
from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.cache import train_once
from netinv_lightning.data import datasets as sources

CPU = ["trainer.accelerator=cpu", "trainer.precision=32-true"]
NETWORK = ["classifier=mlp", "+classifier.network.widths=[16]"]
DATA = ["data=mnist5k", "data.subset_size=400", "data.batch_size=50"]
RECIPE = ["recipe.epochs=1", "recipe.lr=0.05"]
SECONDS = "cost/classifier_training_seconds"
ACCURACY = "classifier/test_accuracy"


digits = cache(sources.mnist5k)  # read once for all tests


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the cache, set by the environment variable."""
    monkeypatch.setenv("NETINV_CLASSIFIERS", str(tmp_path / "kept"))
    monkeypatch.setitem(sources.LOADERS, "mnist5k", digits)
    return tmp_path / "kept"


def config(*overrides: str) -> DictConfig:
    return netinv_lightning.compose(
        [*CPU, *NETWORK, *DATA, *RECIPE, "classifier.train=true", *overrides]
    )


def trained(*overrides: str) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Return weights and metrics of the classifier that the overrides select."""
    cfg = config(*overrides)
    classifier = load_classifier(cfg)
    metrics = train_once(cfg, classifier)
    return classifier.network.state_dict(), metrics


def equal(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    return some.keys() == others.keys() and all(
        torch.equal(some[name], others[name]) for name in some
    )
