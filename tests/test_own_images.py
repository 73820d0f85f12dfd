"""A user's own images, and how images of any set are split (A6-10; design 4 "Files from outside")."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from netinv_lightning.data.module import ImageDataModule
from netinv_lightning.data.own_images import read_folder, read_npz
from netinv_lightning.errors import InputError

X = np.random.default_rng(0).integers(0, 256, (100, 3, 8, 8), dtype=np.uint8)
Y = np.arange(100) % 4


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.mkdir, (self.target,)


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    np.savez(tmp_path / "mine.npz", X=X, y=Y)
    return tmp_path / "mine.npz"


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_npz(path)
    assert str(caught.value).startswith(f"data.path={path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_layouts_of_an_npz_give_the_same_tensors(channels: int, tmp_path: Path) -> None:
    images_nCHW = X[:, :channels]
    layouts = [images_nCHW, images_nCHW.transpose(0, 2, 3, 1)] + ([images_nCHW[:, 0]] if channels == 1 else [])
    for layout, labels in zip(layouts, (Y, Y[:, None].astype(np.uint8), Y.astype(np.int32)), strict=False):
        np.savez_compressed(tmp_path / "mine.npz", X=layout, y=labels)
        (images, labels_n), names = read_npz(tmp_path / "mine.npz")
        assert torch.equal(images, torch.from_numpy(images_nCHW))
        assert (labels_n.tolist(), labels_n.dtype) == (Y.tolist(), torch.int64)
        assert names == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"X": X.astype(np.float32), "y": Y}, "X is float32; it must be uint8"),
        ({"X": X, "labels": Y}, "but not ['y']"),
        ({"X": X, "y": Y[:99]}, "it must be 100 whole numbers from 0"),
        ({"X": X, "y": Y / 2}, "it must be 100 whole numbers from 0"),
        ({"X": X, "y": Y - 1}, "it must be 100 whole numbers from 0"),
        ({"X": X[:, :2], "y": Y}, "C = 1 or 3"),
        ({"X": X[..., :5], "y": Y}, "square images"),
        ({"X": X[:0], "y": Y[:0]}, "X"),
    ],
)
def test_an_npz_of_another_kind_is_refused(content: dict[str, np.ndarray], said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", **content)
    assert said in refusal(tmp_path / "mine.npz")


def test_a_single_image_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", X=X[:1], y=Y[:1])
    (images, labels_n), _ = read_npz(tmp_path / "mine.npz")
    assert (images.shape, labels_n.tolist()) == ((1, 3, 8, 8), [0])


def test_pickled_objects_in_an_npz_are_never_run(tmp_path: Path) -> None:
    path, target = tmp_path / "mine.npz", tmp_path / "made by the bomb"
    np.savez(path, X=np.array([Bomb(target)], dtype=object), y=np.array([0]))
    assert "plain number arrays" in refusal(path)
    path.write_bytes(pickle.dumps(Bomb(target)))
    refusal(path)
    assert not target.exists()
    pickle.loads(pickle.dumps(Bomb(target)))
    assert target.exists()  # the bomb works


@pytest.mark.parametrize("damage", ["missing", "folder", "empty", "truncated", "flipped", "flipped_compressed", "npy"])
def test_a_damaged_npz_is_one_line(damage: str, npz: Path, tmp_path: Path) -> None:
    if damage == "missing":
        npz.unlink()
    elif damage == "folder":
        npz = tmp_path
    elif damage == "npy":
        np.save(tmp_path / "mine.npy", X)
        npz = tmp_path / "mine.npy"
    else:
        if damage == "flipped_compressed":
            np.savez_compressed(npz, X=np.zeros_like(X), y=Y)
        content = npz.read_bytes()
        flipped = content[:60] + bytes(255 - byte for byte in content[60:100]) + content[100:]
        npz.write_bytes({"empty": b"", "truncated": content[: len(content) // 2]}.get(damage, flipped))
    refusal(npz)


# Folders of images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label, name in enumerate(("ant", "bee", "cat")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(X[2 * label + i].transpose(1, 2, 0)).save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "photos"


def test_a_folder_of_pngs_is_read_pixel_by_pixel(folder: Path) -> None:
    (images, labels_n), names = read_folder(folder, None)
    assert torch.equal(images, torch.from_numpy(X[:6]))
    assert (labels_n.tolist(), names) == ([0, 0, 1, 1, 2, 2], ("ant", "bee", "cat"))


def test_images_of_a_folder_are_resized_cropped_and_made_rgb(folder: Path) -> None:
    gray_HW = X[0, 0]
    Image.fromarray(gray_HW).save(folder / "ant" / "0.png")
    large = np.full((16, 24, 3), (10, 20, 30), np.uint8)
    large[:4] = 200  # a quarter of its height, all lost where it is cropped without being resized
    Image.fromarray(large).save(folder / "cat" / "1.png")
    wide = np.zeros((8, 16, 3), np.uint8)
    wide[:, 4:12] = 200  # the middle square, all that a crop to 8 x 8 keeps
    Image.fromarray(wide).save(folder / "bee" / "0.png")
    (images, _), _ = read_folder(folder, None)
    assert images.shape == (6, 3, 8, 8)  # the first image's size
    assert torch.equal(images[0], torch.from_numpy(gray_HW).expand(3, 8, 8))
    assert images[5, :, 0].unique().tolist() == [200]
    assert images[5, :, 4:].flatten(1).unique(dim=1).flatten().tolist() == [10, 20, 30]
    assert images[2].unique().tolist() == [200]
    (images, _), _ = read_folder(folder, 4)
    assert images.shape == (6, 3, 4, 4)


@pytest.mark.parametrize("damage", ["missing", "no classes", "empty class", "no image", "truncated"])
def test_a_damaged_folder_is_one_line(damage: str, folder: Path, tmp_path: Path) -> None:
    if damage == "no image":
        (folder / "bee" / "0.png").write_bytes(b"hello")
    elif damage == "truncated":
        path = folder / "bee" / "0.png"
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "empty class":
        (folder / "dog").mkdir()
    else:
        folder = tmp_path / "other"
        folder.mkdir(exist_ok=damage == "no classes")
        if damage == "missing":
            folder.rmdir()
    with pytest.raises(InputError) as caught:
        read_folder(folder, None)
    assert str(caught.value).startswith(f"data.path={folder}")
    assert "\n" not in str(caught.value)


# Splits


def images_of(*splits: tuple[Tensor, Tensor]) -> list[bytes]:
    return sorted(image.numpy().tobytes() for images, _ in splits for image in images)


def test_own_images_are_split_into_disjoint_train_validation_and_test(npz: Path) -> None:
    data = ImageDataModule("npz", path=str(npz), val_fraction=0.2)
    assert [len(split[1]) for split in (data.train, data.val, data.test)] == [64, 16, 20]
    assert images_of(data.train, data.val, data.test) == images_of((torch.from_numpy(X), torch.from_numpy(Y)))  # each once
    assert data.test[1].bincount().tolist() == [5] * 4
    assert data.val[1].bincount().tolist() == [4] * 4
    assert (data.spec.name, data.spec.num_classes, data.spec.channels, data.spec.image_size) == ("mine", 4, 3, 8)
    seen = np.concatenate([data.train[0], data.val[0]]) / 255  # the test images are not measured
    assert data.spec.mean == pytest.approx(seen.mean(axis=(0, 2, 3)), abs=1e-4)
    assert data.spec.std == pytest.approx(seen.std(axis=(0, 2, 3)), abs=2e-4)


def test_validation_and_subset_come_from_the_training_images_alone(npz: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "test.npz", X=255 - X[:12], y=Y[:12])
    made = [
        ImageDataModule("npz", path=str(npz), test_path=str(tmp_path / "test.npz"), val_fraction=0.25, subset_size=40, split_seed=seed)
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
        *[("subset_size", 0), ("subset_size", 91), ("val_fraction", 1.0), ("val_fraction", -0.1), ("batch_size", 1)],
        *[("shift", -1), ("shift", 8), ("name", "npzz"), ("path", None), ("path", "no.npz"), ("test_path", "no.npz")],
    ],
)
def test_a_value_out_of_range_is_one_line_naming_its_key(key: str, value: object, npz: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "test.npz", X=X[:4], y=Y[:4])
    arguments = {"name": "npz", "path": str(npz), "test_path": str(tmp_path / "test.npz"), key: value}
    with pytest.raises(InputError) as caught:
        ImageDataModule(**arguments)
    assert str(caught.value).startswith(f"data.{key}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("test", [{"X": X[:, :1], "y": Y}, {"X": X, "y": Y + 1}], ids=["shape", "labels"])
def test_test_images_of_another_shape_or_with_unknown_labels_are_refused(test: dict[str, np.ndarray], npz: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "test.npz", **test)
    with pytest.raises(InputError, match=r"data\.test_path="):
        ImageDataModule("npz", path=str(npz), test_path=str(tmp_path / "test.npz"))


def test_test_folders_of_other_classes_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "cat").symlink_to(folder / "cat")  # alone in its folder, its label is 0, not 2
    with pytest.raises(InputError, match=r"data\.test_path="):
        ImageDataModule("image_folder", path=str(folder), test_path=str(tmp_path / "test"))
