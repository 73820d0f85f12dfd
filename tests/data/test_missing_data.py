"""Missing and damaged data sets, and servers that do not answer."""

from __future__ import annotations

import re
import socket
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from torchvision import datasets

from netinv_lightning.data import datasets as sources
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.datasets import LOADERS
from netinv_lightning.errors import InputError
from tests.data.conftest import pixels, write_mnist

CIFAR_X = pixels(2, 32, 3, 0).transpose(0, 2, 3, 1)
IN_PACKAGES = ("mnist5k", "digits")
"""Data sets whose files are part of an installed package."""


@pytest.mark.parametrize(
    "content",
    [
        {"images": CIFAR_X},
        {"X": CIFAR_X / 255, "y": np.array([0, 1])},
        {"X": CIFAR_X.transpose(0, 3, 1, 2), "y": np.array([0, 1])},
        {"X": CIFAR_X, "y": np.array([0, 100])},
        {"X": CIFAR_X, "y": np.array([0, -1])},
        {"X": CIFAR_X, "y": np.array([0, 1, 2])},
        {"X": CIFAR_X[:0], "y": np.array([], dtype=int)},
        {"X": CIFAR_X, "y": np.array([0, "runs code"], dtype=object)},
    ],
    ids=["keys", "floats", "channels first", "label 100", "label -1", "labels", "none", "pickled"],
)
def test_an_invalid_cifar100_subset_gives_one_line(
    content: dict[str, np.ndarray], tmp_path: Path
) -> None:
    np.savez(tmp_path / "cifar100_subset_train.npz", **content)
    assert "cifar100_subset_train.npz is damaged" in refusal("cifar100_subset", tmp_path)


@pytest.mark.parametrize("keep", [0, 9, 500])
def test_a_truncated_cifar100_subset_gives_one_line(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "cifar100_subset_train.npz"
    np.savez(path, X=CIFAR_X, y=np.array([0, 1]))
    path.write_bytes(path.read_bytes()[:keep])
    assert "cifar100_subset_train.npz is damaged" in refusal("cifar100_subset", tmp_path)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def refusal(name: str, root: Path) -> str:
    with pytest.raises(InputError) as caught:
        ImageDataModule(name, root=str(root))
    assert str(caught.value).startswith(f"data.root={root}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", [name for name in LOADERS if name not in IN_PACKAGES])
def test_missing_data_without_a_network_name_folder_and_remedy(name: str, tmp_path: Path) -> None:
    remedy = (
        "data=svhn" if "head" in name else "data=cifar100" if "subset" in name else "data=mnist5k"
    )
    (tmp_path / "of_the_user").mkdir()
    assert re.search(f"NETINV_DATA.*{remedy}", refusal(name, tmp_path))
    assert re.search(f"NETINV_DATA.*{remedy}", refusal(name, tmp_path / "not" / "there"))
    # The failed download leaves no empty directories.
    assert [path.name for path in tmp_path.rglob("*")] == ["of_the_user"]


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("keep", [0, 9, 500])
def test_damaged_data_files_give_one_line(keep: int, tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST" / "raw", {"train": 3, "t10k": 3}, keep)
    refusal("mnist", tmp_path)
    path = tmp_path / "train_32x32.head.mat"
    savemat(path, {"X": pixels(32, 2, 3, 0), "y": np.ones((2, 1), np.uint8)})
    path.write_bytes(path.read_bytes()[:keep])
    refusal("svhn_head", tmp_path)
    savemat(path, {"images": np.ones((2, 2))})
    refusal("svhn_head", tmp_path)


def test_a_server_that_does_not_answer_times_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "SILENCE", 0.2)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts the request, never answers
        monkeypatch.setattr(
            datasets.CIFAR10, "url", f"http://127.0.0.1:{server.getsockname()[1]}/cifar.tar.gz"
        )
        assert "timed out" in refusal("cifar10", tmp_path)
    assert socket.getdefaulttimeout() is None
