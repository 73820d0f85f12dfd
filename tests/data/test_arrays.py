"""Images and labels in .npz files: layouts, ranges, damage."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from netinv_lightning.data.arrays import read_images
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.user_files import read_npz, read_own
from netinv_lightning.errors import InputError
from tests.data.conftest import X, Y


class Bomb:
    """Object that creates a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.mkdir, (self.target,)


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_npz(path)
    assert str(caught.value).startswith(f"data.path={path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("channels", [1, 3])
def test_all_layouts_of_an_npz_give_the_same_tensors(channels: int, tmp_path: Path) -> None:
    images_nCHW = X[:, :channels]
    layouts = [images_nCHW, images_nCHW.transpose(0, 2, 3, 1)] + (
        [images_nCHW[:, 0]] if channels == 1 else []
    )
    for layout, labels in zip(
        layouts, (Y, Y[:, None].astype(np.uint8), Y.astype(np.int32)), strict=False
    ):
        np.savez_compressed(tmp_path / "mine.npz", X=layout, y=labels)
        (images, labels_n), names = read_npz(tmp_path / "mine.npz")
        assert torch.equal(images, torch.from_numpy(images_nCHW))
        assert (labels_n.tolist(), labels_n.dtype) == (Y.tolist(), torch.int64)
        assert names == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            {"X": X.astype(np.float32) * 2, "y": Y},
            "X is float32 with values from 0 to 510; the range must be 0 to 1, -1 to 1, 0 to 255",
        ),
        ({"X": X / np.nan, "y": Y}, "X is float64 or contains NaN"),
        (
            {"X": X.astype(np.int64) * 257, "y": Y},
            "X is int64 with values from 0 to 65535; the range must be 0 to 255",
        ),
        (
            {"X": X.astype(np.int64) // 255, "y": Y},
            "X is int64 with values from 0 to 1; the range must be 0 to 255",
        ),
        ({"X": X, "labels": Y}, "but not ['y']"),
        ({"X": X, "y": Y[:99]}, "it must be 100 whole numbers from 0"),
        ({"X": X, "y": Y / 2}, "it must be 100 whole numbers from 0"),
        ({"X": X, "y": Y - 1}, "it must be 100 whole numbers from 0"),
        ({"X": X[:0], "y": Y[:0]}, "X"),
    ],
)
def test_an_npz_with_other_contents_is_refused(
    content: dict[str, np.ndarray], said: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "mine.npz", **content)
    assert said in refusal(tmp_path / "mine.npz")


def test_a_single_image_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", X=X[:1], y=Y[:1])
    (images, labels_n), _ = read_npz(tmp_path / "mine.npz")
    assert (images.shape, labels_n.tolist()) == ((1, 3, 8, 8), [0])


def test_pickled_objects_in_an_npz_are_never_executed(tmp_path: Path) -> None:
    path, target = tmp_path / "mine.npz", tmp_path / "made by the bomb"
    np.savez(path, X=np.array([Bomb(target)], dtype=object), y=np.array([0]))
    assert "which must be arrays of numbers" in refusal(path)
    path.write_bytes(pickle.dumps(Bomb(target)))
    refusal(path)
    assert not target.exists()
    pickle.loads(pickle.dumps(Bomb(target)))
    assert target.exists()  # the pickle does create the folder


@pytest.mark.parametrize(
    "damage", ["missing", "folder", "empty", "truncated", "flipped", "flipped_compressed", "npy"]
)
def test_a_damaged_npz_gives_one_line(damage: str, npz: Path, tmp_path: Path) -> None:
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
        npz.write_bytes(
            {"empty": b"", "truncated": content[: len(content) // 2]}.get(damage, flipped)
        )
    refusal(npz)


def own_module(tmp_path: Path, **arrays: np.ndarray) -> ImageDataModule:
    np.savez(tmp_path / "theirs.npz", **arrays)
    return ImageDataModule("npz", path=str(tmp_path / "theirs.npz"))


@pytest.mark.parametrize(
    ("of", "told"),
    [
        (lambda x: x.astype(np.float32), "0 to 255"),
        (lambda x: x / 255, "0 to 1"),
        (lambda x: (x / 127.5 - 1).astype(np.float32), "-1 to 1"),
        (lambda x: x.astype(np.int64), "0 to 255"),
    ],
)
def test_pixels_are_scaled_by_their_range(
    of: Any, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "theirs.npz", X=of(X), y=Y)
    (images, _), _ = read_npz(tmp_path / "theirs.npz")
    assert torch.equal(images, torch.from_numpy(X))
    assert f"read as pixels of the range {told}" in capsys.readouterr().err


def test_black_and_white_pixels_and_one_hot_labels_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "theirs.npz", X=X[:, 0] > 99, y=np.eye(4)[Y])
    (images, labels_n), _ = read_npz(tmp_path / "theirs.npz")
    assert torch.equal(images, torch.from_numpy((X[:, :1] > 99) * np.uint8(255)))
    assert labels_n.tolist() == Y.tolist()


def test_all_splits_of_a_file_share_one_pixel_range(tmp_path: Path) -> None:
    signed = X / 127.5 - 1
    data = own_module(
        tmp_path, x_train=signed[:80], y_train=Y[:80], x_test=abs(signed[80:]), y_test=Y[80:]
    )
    assert torch.equal(
        data.test[0], torch.from_numpy((abs(signed[80:]) * 127.5 + 127.5).round().astype(np.uint8))
    )


@pytest.mark.parametrize("classes", [None, [3, 1]])
def test_splits_of_medmnist_and_keras_files_are_kept(
    classes: list[int] | None, tmp_path: Path
) -> None:
    keep = [bool(classes is None or y in classes) for y in Y]
    arrays = {}
    for split, part in (("train", slice(0, 60)), ("val", slice(60, 80)), ("test", slice(80, 100))):
        arrays |= {f"{split}_images": X[part], f"{split}_labels": Y[part, None]}
    np.savez(tmp_path / "medmnist.npz", **arrays)
    np.savez(tmp_path / "keras.npz", x_train=X[:80], y_train=Y[:80], x_test=X[80:], y_test=Y[80:])
    medmnist = ImageDataModule("npz", path=str(tmp_path / "medmnist.npz"), classes=classes)
    keras = ImageDataModule(
        "npz", path=str(tmp_path / "keras.npz"), classes=classes, val_fraction=0.0
    )
    for split, first, last in (
        (medmnist.train, 0, 60),
        (medmnist.val, 60, 80),
        (medmnist.test, 80, 100),
        (keras.train, 0, 80),
    ):
        assert torch.equal(split[0], torch.from_numpy(X[first:last][keep[first:last]]))
        assert split[1].tolist() == [
            y if classes is None else classes.index(y)
            for y in Y[first:last]
            if classes is None or y in classes
        ]
    assert torch.equal(keras.test[0], medmnist.test[0])
    assert medmnist.spec.mean == pytest.approx((X[:60] / 255).mean(axis=(0, 2, 3)), abs=1e-4)
    assert torch.equal(
        read_images(tmp_path / "medmnist.npz", "application.outliers"), torch.from_numpy(X[80:])
    )


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (Y + 1, "no training image has the label 0, but the largest label is 4; subtract 1 from y"),
        (
            np.where(Y == 3, 9, Y),
            "no training image has the label 3, 4, 5, 6, 7, 8, but the largest label is 9; "
            "number the classes",
        ),
    ],
)
def test_classes_without_images_are_named(labels: np.ndarray, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        own_module(tmp_path, X=X, y=labels)
    assert said in str(caught.value)


def test_an_npz_may_name_its_classes(tmp_path: Path) -> None:
    path, names = tmp_path / "mine.npz", ["cat", "dog", "50 $", "newt"]
    np.savez(path, X=X, y=Y)
    assert read_own("npz", path, None).class_names == tuple(map(str, range(len(names))))
    np.savez(path, X=X, y=Y, class_names=np.array(names))
    assert read_own("npz", path, None).class_names == tuple(names)


@pytest.mark.parametrize("wrong", [np.array(["one"]), np.arange(int(Y.max()) + 1)])
def test_wrong_class_names_are_refused_in_one_line(wrong: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, X=X, y=Y, class_names=wrong)
    with pytest.raises(InputError, match=r"class_names has the shape .*one string for each of the"):
        read_own("npz", path, None)
