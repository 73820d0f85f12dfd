"""A user's own images, and how images of any set are split (A6-10; design 4 "Files from outside")."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.arrays import read_images
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.outliers import outliers
from netinv_lightning.data.specs import CIFAR10
from netinv_lightning.data.user_files import read_folder, read_npz
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.real_accuracy import largest_chance, report_accuracy
from netinv_lightning.runs.notices import notices_of_a_run

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
        ({"X": X / np.nan, "y": Y}, "X is float64 or holds NaN"),
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
        ({"X": X[:, :2], "y": Y}, "C = 1 or 3"),
        ({"X": X[..., :5], "y": Y}, "square images"),
        ({"X": X[:0], "y": Y[:0]}, "X"),
    ],
)
def test_an_npz_of_another_kind_is_refused(
    content: dict[str, np.ndarray], said: str, tmp_path: Path
) -> None:
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


@pytest.mark.parametrize(
    "damage", ["missing", "folder", "empty", "truncated", "flipped", "flipped_compressed", "npy"]
)
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
        npz.write_bytes(
            {"empty": b"", "truncated": content[: len(content) // 2]}.get(damage, flipped)
        )
    refusal(npz)


# Folders of images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label, name in enumerate(("ant", "bee", "cat")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(X[2 * label + i].transpose(1, 2, 0)).save(
                tmp_path / "photos" / name / f"{i}.png"
            )
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


@pytest.mark.parametrize(
    "damage", ["missing", "no classes", "empty class", "no image", "truncated"]
)
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
    assert images_of(data.train, data.val, data.test) == images_of(
        (torch.from_numpy(X), torch.from_numpy(Y))
    )  # each once
    assert data.test[1].bincount().tolist() == [5] * 4
    assert data.val[1].bincount().tolist() == [4] * 4
    assert (data.spec.name, data.spec.num_classes, data.spec.channels, data.spec.image_size) == (
        "mine",
        4,
        3,
        8,
    )
    seen = np.concatenate([data.train[0], data.val[0]]) / 255  # the test images are not measured
    assert data.spec.mean == pytest.approx(seen.mean(axis=(0, 2, 3)), abs=1e-4)
    assert data.spec.std == pytest.approx(seen.std(axis=(0, 2, 3)), abs=2e-4)


def test_validation_and_subset_come_from_the_training_images_alone(
    npz: Path, tmp_path: Path
) -> None:
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
def test_a_value_out_of_range_is_one_line_naming_its_key(
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
def test_test_images_of_another_shape_or_with_unknown_labels_are_refused(
    test: dict[str, np.ndarray], npz: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "test.npz", **test)
    with pytest.raises(InputError, match=r"data\.test_path="):
        ImageDataModule("npz", path=str(npz), test_path=str(tmp_path / "test.npz"))


def test_test_folders_of_other_classes_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "cat").symlink_to(
        folder / "cat"
    )  # alone in its folder, its label is 0, not 2
    with pytest.raises(InputError, match=r"data\.test_path="):
        ImageDataModule("image_folder", path=str(folder), test_path=str(tmp_path / "test"))


# Arrays as people save them


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


def test_all_splits_of_a_file_have_one_range(tmp_path: Path) -> None:
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
        (Y + 1, "no training image has the label 0, the labels go up to 4; subtract 1 from y"),
        (
            np.where(Y == 3, 9, Y),
            "no training image has the label 3, 4, 5, 6, 7, 8, the labels go up to 9; number the classes",
        ),
    ],
)
def test_classes_without_images_are_named(labels: np.ndarray, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        own_module(tmp_path, X=X, y=labels)
    assert said in str(caught.value)


# Pictures as people have them


def pictures(
    tmp_path: Path, picture: Image.Image, name: str = "0.png", **options: Any
) -> tuple[Tensor, Tensor]:
    """The pixels of one picture as a training image and as an outlier."""
    (tmp_path / "photos" / "class").mkdir(parents=True)
    picture.save(tmp_path / "photos" / "class" / name, **options)
    (images, _), _ = read_folder(tmp_path / "photos", None)
    spec = replace(CIFAR10, image_size=images.shape[-1])
    outlier = outliers(f"{tmp_path}/photos/", spec, 1, 0, tmp_path)
    return images[0], (outlier[0] * 255).round().to(torch.uint8)


def test_transparent_pixels_are_composited_on_grey(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 4), dtype=np.uint8)
    pixels[..., 3] = 0
    pixels[2:6, 2:6] = 255
    for image in pictures(tmp_path, Image.fromarray(pixels, "RGBA")):
        assert image[:, 2:6, 2:6].unique().tolist() == [255]
        assert sorted(image.unique().tolist()) == [128, 255]


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    for image in pictures(tmp_path, Image.fromarray(values)):
        assert torch.equal(image[0], torch.from_numpy((values / 257).round().astype(np.uint8)))


def test_the_orientation_of_a_photograph_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8] = 255
    picture = Image.fromarray(pixels)
    exif = picture.getexif()
    exif[0x112] = 6  # turn by 90 degrees clockwise
    for image in pictures(tmp_path, picture, "0.jpg", exif=exif, quality=95):
        assert (image[:, :, 9:].min() > 200, image[:, :, :7].max() < 50) == (True, True)


@pytest.mark.parametrize("mode", ["CMYK", "P", "LA", "1"])
def test_pictures_of_any_mode_become_rgb(mode: str, tmp_path: Path) -> None:
    picture = Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode)
    for image in pictures(tmp_path, picture, "0.tif"):
        assert image.shape == (3, 8, 8)
        assert image.min() > 250


def test_the_first_frame_of_an_animation_is_read(tmp_path: Path) -> None:
    frames = [Image.new("L", (8, 8), value) for value in (200, 10)]
    for image in pictures(tmp_path, frames[0], "0.gif", save_all=True, append_images=frames[1:]):
        assert image.unique().tolist() == [200]


def test_pictures_without_a_known_range_and_too_large_ones_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        InputError,
        match=r"0.tif cannot be read \(its pixels are float32; save it with 8 or 16 bits\)",
    ):
        pictures(tmp_path / "float", Image.new("F", (8, 8), 0.5), "0.tif")
    monkeypatch.setattr("netinv_lightning.data.pictures.LARGEST", 63)
    with pytest.raises(InputError, match=r"0.png has 64 pixels; the largest picture read has 63"):
        pictures(tmp_path / "large", Image.new("L", (8, 8)))


def test_hidden_files_and_folders_are_left_out(folder: Path) -> None:
    (folder / ".checkpoints").mkdir()
    (folder / "ant" / "._0.png").write_bytes(b"junk")
    (folder / "ant" / "notes.txt").write_text("junk")
    (folder / "ant" / "deeper").mkdir()
    (folder / "ant" / "0.png").rename(folder / "ant" / "deeper" / "0.png")
    (_, labels_n), names = read_folder(folder, None)
    assert (labels_n.tolist(), names) == ([0, 0, 1, 1, 2, 2], ("ant", "bee", "cat"))


def test_folders_called_train_and_test_are_splits(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "valid", "test"):
        shutil.copytree(folder, tmp_path / "published" / split)
    (tmp_path / "published" / "valid" / "bee" / "0.png").unlink()
    data = ImageDataModule("image_folder", path=str(tmp_path / "published"))
    assert [split[1].tolist() for split in (data.train, data.val, data.test)] == [
        [0, 0, 1, 1, 2, 2],
        [0, 0, 1, 2, 2],
        [0, 0, 1, 1, 2, 2],
    ]
    assert data.spec.class_names == ("ant", "bee", "cat")
    assert "test, train, valid are splits, not classes" in capsys.readouterr().err
    (tmp_path / "published" / "other").mkdir()
    with pytest.raises(InputError, match="no pictures in other"):
        ImageDataModule("image_folder", path=str(tmp_path / "published"))
    (tmp_path / "published" / "other").rmdir()
    (tmp_path / "published" / "test" / "cat").rename(tmp_path / "published" / "test" / "dog")
    with pytest.raises(InputError, match="test has the classes ant, bee, dog, train ant, bee, cat"):
        ImageDataModule("image_folder", path=str(tmp_path / "published"))


# Accuracy on the real images that a run reads


class Brightness(nn.Module):
    """Class 1 for bright images, if it sees them as they are."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean((1, 2, 3))
        return torch.stack([0.5 - x, x - 0.5], 1)


@pytest.mark.parametrize(("mean", "accuracy"), [(0.0, 1.0), (0.9, 0.5)])
def test_accuracy_near_chance_on_real_images_is_a_warning(
    mean: float, accuracy: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bright = np.arange(200) % 2
    images = np.repeat((bright * 200 + 20).astype(np.uint8), 784).reshape(200, 28, 28)
    np.savez(tmp_path / "bright.npz", X=images, y=bright)
    real = ImageDataModule("npz", path=str(tmp_path / "bright.npz"), val_fraction=0.5)
    frozen = FrozenClassifier(Brightness(), replace(real.spec, mean=(mean,), std=(1.0,)), ())
    with notices_of_a_run():
        report_accuracy(frozen, real)
    printed = capsys.readouterr().err
    assert (frozen.real_accuracy, frozen.passes.forwards) == (
        accuracy,
        2,
    )  # two images at its making
    assert f"classifier: accuracy {accuracy:.4f} on 100 test images of bright" in printed
    assert ("warning: this is near chance" in printed) == (accuracy < 1)
    assert largest_chance(0.7, 10, 1000) == pytest.approx(0.7 + 3 * (0.7 * 0.3 / 1000) ** 0.5)
