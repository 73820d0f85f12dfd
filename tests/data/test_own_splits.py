"""Splits of a user's own images, and invalid values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.errors import InputError
from tests.data.conftest import X, Y


def images_of(*splits: tuple[Tensor, Tensor]) -> list[bytes]:
    return sorted(image.numpy().tobytes() for images, _ in splits for image in images)


def test_own_images_are_split_without_overlap(npz: Path) -> None:
    data = ImageDataModule("npz", path=str(npz), val_fraction=0.2)
    assert [len(split[1]) for split in (data.train, data.val, data.test)] == [64, 16, 20]
    assert images_of(data.train, data.val, data.test) == images_of(
        (torch.from_numpy(X), torch.from_numpy(Y))
    )  # each image once
    assert data.test[1].bincount().tolist() == [5] * 4
    assert data.val[1].bincount().tolist() == [4] * 4
    assert (data.spec.name, data.spec.num_classes, data.spec.channels, data.spec.image_size) == (
        "mine",
        4,
        3,
        8,
    )
    # test images do not enter the statistics
    seen = np.concatenate([data.train[0], data.val[0]]) / 255
    assert data.spec.mean == pytest.approx(seen.mean(axis=(0, 2, 3)), abs=1e-4)
    assert data.spec.std == pytest.approx(seen.std(axis=(0, 2, 3)), abs=2e-4)


def test_validation_and_subset_come_from_training_images(npz: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "test.npz", X=255 - X[:12], y=Y[:12])
    made = [
        ImageDataModule(
            "npz",
            path=str(npz),
            test_path=str(tmp_path / "test.npz"),
            val_fraction=0.25,
            subset_size=40,
            split_seed=seed,
        )
        for seed in (0, 0, 1)
    ]
    for data in made:
        assert torch.equal(data.test[0], torch.from_numpy(255 - X[:12]))
        assert not set(data.train_indices.tolist()) & set(data.val_indices.tolist())
        assert torch.equal(data.val[0], torch.from_numpy(X)[data.val_indices])
        assert torch.equal(data.train[0], torch.from_numpy(X)[data.train_indices])
        assert (data.train[1].bincount().tolist(), len(data.val_indices)) == ([10] * 4, 25)
    assert torch.equal(made[0].train_indices, made[1].train_indices)
    assert not torch.equal(made[0].train_indices, made[2].train_indices)
    assert not torch.equal(made[0].val_indices, made[2].val_indices)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[
            ("subset_size", 0),
            ("subset_size", 91),
            ("val_fraction", 1.0),
            ("val_fraction", -0.1),
            ("batch_size", 1),
        ],
        *[
            ("shift", -1),
            ("shift", 8),
            ("name", "npzz"),
            ("path", None),
            ("path", "no.npz"),
            ("test_path", "no.npz"),
        ],
    ],
)
def test_an_invalid_value_gives_one_line_naming_its_key(
    key: str, value: object, npz: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "test.npz", X=X[:4], y=Y[:4])
    arguments = {
        "name": "npz",
        "path": str(npz),
        "test_path": str(tmp_path / "test.npz"),
        key: value,
    }
    with pytest.raises(InputError) as caught:
        ImageDataModule(**arguments)
    assert str(caught.value).startswith(f"data.{key}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "test", [{"X": X[:, :1], "y": Y}, {"X": X, "y": Y + 1}], ids=["shape", "labels"]
)
def test_test_images_of_another_shape_or_label_are_refused(
    test: dict[str, np.ndarray], npz: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "test.npz", **test)
    with pytest.raises(InputError, match=r"data\.test_path="):
        ImageDataModule("npz", path=str(npz), test_path=str(tmp_path / "test.npz"))


def test_test_folders_of_other_classes_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "cat").symlink_to(
        folder / "cat"
    )  # the only folder, so its label is 0 instead of 2
    with pytest.raises(InputError, match=r"data\.test_path="):
        ImageDataModule("image_folder", path=str(folder), test_path=str(tmp_path / "test"))
