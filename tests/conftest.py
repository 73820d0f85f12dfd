"""Fixtures for all tests: no network, no W&B login, and short versions of the recipes."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

import netinv_lightning
from experiments.forked import PRELOADED
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.run import run
from tests.composed_choices import remember_choices
from tests.figure_contents import figures

__all__ = ["figures"]

PRELOADED.append("tests.preloaded")

FEW_STEPS = [
    "generator=tiny",
    "application.steps=8",
    "application.batch_size=8",
    "application.log_every=2",
    "application.grid_every=1000",
    "application.checkpoint_every=4",
    "application.eval_samples=64",
    "application.eval_batch_size=32",
    "application.keep_samples=16",
    "application.grid_columns=2",
]
"""Overrides that shorten any inversion to about a second."""


SLOWEST = ("training", "runs", "dashboard", "applications", "evaluation", "tracking", "explorer")
"""Folders whose files take longest. They run first, so that parallel processes end together."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of the slowest folders; the order within a folder stays."""
    order = {folder: place for place, folder in enumerate(SLOWEST)}
    items.sort(key=lambda item: order.get(item.path.parent.name, len(SLOWEST)))


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let connections to other machines fail immediately, as without a network."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(
            ("127.", "::1", "localhost")
        ):
            raise OSError(f"tests have no network: {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")


@contextmanager
def few_test_images(every: int) -> Iterator[None]:
    """Context in which a data set has a part of its test images, because they take most time."""
    initialise = ImageDataModule.__init__

    @wraps(initialise)
    def with_few(self: ImageDataModule, *args: Any, **keys: Any) -> None:
        initialise(self, *args, **keys)
        images_nCHW, label_n = self.test
        self.test = images_nCHW[::every], label_n[::every]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageDataModule, "__init__", with_few)
        yield


@pytest.fixture(scope="session", autouse=True)
def choices_read_once() -> Iterator[None]:
    """Let Hydra read and merge the files of equal choices only once."""
    with pytest.MonkeyPatch.context() as patch:
        remember_choices(patch)
        yield


@pytest.fixture
def compose() -> Callable[..., DictConfig]:
    """Return a function that composes a config with few steps and further overrides."""
    return lambda *overrides: netinv_lightning.compose([*FEW_STEPS, *overrides])


def inverted_briefly(classifier: str, path: Path) -> Path:
    """Invert a digit classifier of the zoo, with data that are part of the installation."""
    digits = ["data=mnist5k", f"classifier.zoo={classifier}", "loss=natural"]
    steps = ["application.steps=50", "application.batch_size=20"]
    once = "application.checkpoint_every=1000"
    run(netinv_lightning.compose([*FEW_STEPS, *digits, *steps, once]), path)
    return path


@pytest.fixture(scope="session")
def inverted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a short inversion of an MLP, which has images of all classes."""
    return inverted_briefly("mnist_mlp", tmp_path_factory.mktemp("inverted") / "run")


@pytest.fixture(scope="session")
def inverted_cnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a short inversion of a CNN, which has images of all classes."""
    return inverted_briefly("mnist_cnn", tmp_path_factory.mktemp("inverted_cnn") / "run")


@pytest.fixture
def job_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "test" / "20260101-000000-000000"
