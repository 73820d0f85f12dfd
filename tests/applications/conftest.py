"""A classifier that leaks its training images."""

from __future__ import annotations

from pathlib import Path

import pytest

import netinv_lightning
from netinv_lightning.run import run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train an MLP on 100 of the digits and return its path."""
    folder = tmp_path_factory.mktemp("classifier")
    overrides = [
        "application=train_classifier",
        "data=mnist5k",
        "data.subset_size=100",
        "data.batch_size=20",
        "classifier=mlp",
        "recipe.epochs=5",
        "+classifier.network.widths=[32]",
        f"application.save_as={folder}/mlp.safetensors",
    ]
    run(netinv_lightning.compose(overrides), folder / "run")
    return folder / "mlp.safetensors"
