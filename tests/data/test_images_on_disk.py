"""Large images stay in their file: what is read, and equality with images in memory."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from netinv_lightning.data import array_files
from netinv_lightning.data.array_files import ArrayOnDisk, array_names, read_array
from netinv_lightning.data.arrays import as_images, read_splits
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.images_on_disk import ImagesOnDisk
from netinv_lightning.data.splits import class_means
from netinv_lightning.data.user_files import mean_and_std
from netinv_lightning.errors import InputError
from netinv_lightning.runs.file_check import check_npz

n = 60
RANDOM = np.random.default_rng(0)
X = RANDOM.integers(0, 256, (n, 3, 6, 5), dtype=np.uint8)
Y = np.arange(n) % 4


@pytest.fixture
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_files, "LARGE", 0)


def on_disk(path: Path, values: np.ndarray = X) -> tuple[ImagesOnDisk, ArrayOnDisk]:
    np.savez(path / "x.npz", X=values, y=Y)
    array = read_array(path / "x.npz", "X")
    assert isinstance(array, ArrayOnDisk)
    images = as_images(array, "data.path")
    assert isinstance(images, ImagesOnDisk)
    return images, array


@pytest.mark.usefixtures("everything_is_large")
@pytest.mark.parametrize(
    "values",
    [
        X,
        X.transpose(0, 2, 3, 1).copy(),
        X[:, 0],
        (X / 255).astype(np.float32),
        X / 127.5 - 1,
        X > 99,
    ],
)
def test_images_on_disk_equal_images_in_memory(values: np.ndarray, tmp_path: Path) -> None:
    images, _ = on_disk(tmp_path, values)
    assert torch.equal(images.load(), as_images(values, "data.path"))


@pytest.mark.usefixtures("everything_is_large")
def test_only_the_rows_that_are_computed_with_are_read(tmp_path: Path) -> None:
    images, array = on_disk(tmp_path)
    memory = torch.from_numpy(X)
    index, mask = torch.tensor([7, 8, 9, 3, 59, 7]), torch.from_numpy(Y == 1)
    selections: list[tuple[Tensor, Tensor]] = [
        (images[index], memory[index]),
        (images[mask], memory[mask]),
        (images[10:20:3], memory[10:20:3]),
        (images.split(25)[2], memory.split(25)[2]),
        (images[mask][:4], memory[mask][:4]),
        (
            torch.cat([images[40:], memory[:5], images[:2]]),
            memory[[*range(40, 60), *range(5), 0, 1]],
        ),
    ]
    assert array.rows_read == 0
    for selected, expected in selections:
        before = array.rows_read
        assert isinstance(selected, ImagesOnDisk)
        assert torch.equal(selected.float(), expected.float())
        assert 0 < array.rows_read - before <= len(expected)
    before = array.rows_read
    assert torch.equal(images[-1], memory[-1])
    assert array.rows_read == before + 1


@pytest.mark.usefixtures("everything_is_large")
def test_a_data_module_reads_each_training_image_once_per_epoch(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", X=X, y=Y)
    settings = {"path": str(tmp_path / "x.npz"), "batch_size": 16, "classes": [2, 0, 3]}
    data = ImageDataModule("npz", **settings)
    parts = (data.train, data.val, data.test, data.unused, data.left_out_train)
    assert all(isinstance(images, ImagesOnDisk) for images, _ in parts)
    torch.manual_seed(0)
    batches = list(data.train_dataloader())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(array_files, "LARGE", 2**30)
        memory = ImageDataModule("npz", **settings)
    assert not isinstance(memory.train[0], ImagesOnDisk)
    assert data.spec == memory.spec
    torch.manual_seed(0)
    for (images, labels), (other, other_labels) in zip(
        batches, memory.train_dataloader(), strict=True
    ):
        assert type(images) is Tensor
        assert torch.equal(images, other)
        assert torch.equal(labels, other_labels)


@pytest.mark.usefixtures("everything_is_large")
def test_a_folder_of_npy_files_is_read_like_an_npz_file(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, values in {"x_train": X, "y_train": Y, "x_test": X[:8], "y_test": Y[:8]}.items():
        np.save(folder / f"{name}.npy", values)
    check_npz(folder, "data.path")
    splits = read_splits(folder, "data.path")
    assert torch.equal(splits["train"][0].float(), torch.from_numpy(X).float())
    assert splits["test"][1].tolist() == Y[:8].tolist()
    assert array_names(folder) == ["x_test", "x_train", "y_test", "y_train"]


def test_a_single_array_and_a_folder_without_arrays_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", X)
    with pytest.raises(InputError, match=r"is a single array\. Give its folder"):
        check_npz(tmp_path / "X.npy", "data.path")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"is a folder without \.npy files"):
        check_npz(tmp_path / "empty", "data.path")


@pytest.mark.usefixtures("everything_is_large")
def test_what_cannot_be_read_by_rows_is_read_as_a_whole(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "compressed.npz", X=X)
    np.savez(tmp_path / "fortran.npz", X=np.asfortranarray(X))
    for name in ("compressed", "fortran"):
        array = read_array(tmp_path / f"{name}.npz", "X")
        assert isinstance(array, np.ndarray)
        assert np.array_equal(array, X)


@pytest.mark.usefixtures("everything_is_large")
def test_damaged_files_and_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", X=np.array([{}]), y=Y[:1])
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", Y)
    whole = (tmp_path / "X.npy").read_bytes()
    (tmp_path / "X.npy").write_bytes(whole[:-1])
    with zipfile.ZipFile(tmp_path / "empty.npz", "w"):
        pass
    for name in ("objects.npz", "", "empty.npz"):
        with pytest.raises(InputError, match=r"data.path=.*"):
            read_splits(tmp_path / name, "data.path")


@pytest.mark.usefixtures("everything_is_large")
def test_a_file_that_becomes_shorter_is_an_error_with_its_name(tmp_path: Path) -> None:
    images, array = on_disk(tmp_path)
    with array.path.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(OSError, match=r"x\.npz: has become shorter"):
        images.load()


@pytest.mark.usefixtures("everything_is_large")
def test_nan_in_any_part_of_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netinv_lightning.data.pixel_ranges.PART", 100)
    values = (X / 255).astype(np.float32)
    values[20, 1, 2, 3] = np.nan
    with pytest.raises(InputError, match="contains NaN"):
        on_disk(tmp_path, values)


@pytest.mark.usefixtures("everything_is_large")
def test_statistics_of_parts_are_those_of_all_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netinv_lightning.data.user_files.PART", 700)
    monkeypatch.setattr("netinv_lightning.data.splits.PART", 7)
    images, _ = on_disk(tmp_path)
    pixels = torch.from_numpy(X).double() / 255
    mean_C, std_C = mean_and_std(images)
    assert mean_C == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist(), abs=1e-12)
    assert std_C == pytest.approx(pixels.std(dim=(0, 2, 3)).tolist(), abs=1e-12)
    means, present = class_means(images, torch.from_numpy(Y))
    assert present.tolist() == [0, 1, 2, 3]
    expected = torch.stack(
        [torch.from_numpy(X[label == Y]).float().mean(dim=0) for label in range(4)]
    )
    assert torch.allclose(means, expected, atol=1e-4)
