"""Folders of pictures: classes, sizes, splits, damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.user_files import read_folder
from netinv_lightning.errors import InputError
from tests.data.conftest import X


def test_a_folder_of_pngs_is_read_pixel_by_pixel(folder: Path) -> None:
    (images, labels_n), names = read_folder(folder, None)
    assert torch.equal(images, torch.from_numpy(X[:6]))
    assert (labels_n.tolist(), names) == ([0, 0, 1, 1, 2, 2], ("ant", "bee", "cat"))


def test_images_of_a_folder_are_resized_cropped_and_made_rgb(folder: Path) -> None:
    gray_HW = X[0, 0]
    Image.fromarray(gray_HW).save(folder / "ant" / "0.png")
    large = np.full((16, 24, 3), (10, 20, 30), np.uint8)
    large[:4] = 200  # a quarter of the height, which a crop without resizing would lose
    Image.fromarray(large).save(folder / "cat" / "1.png")
    wide = np.zeros((8, 16, 3), np.uint8)
    wide[:, 4:12] = 200  # the middle square, which a crop to 8 x 8 keeps
    Image.fromarray(wide).save(folder / "bee" / "0.png")
    (images, _), _ = read_folder(folder, None)
    assert images.shape == (6, 3, 8, 8)  # the size of the first image
    assert torch.equal(images[0], torch.from_numpy(gray_HW).expand(3, 8, 8))
    assert images[5, :, 0].unique().tolist() == [200]
    assert images[5, :, 4:].flatten(1).unique(dim=1).flatten().tolist() == [10, 20, 30]
    assert images[2].unique().tolist() == [200]
    (images, _), _ = read_folder(folder, 4)
    assert images.shape == (6, 3, 4, 4)


@pytest.mark.parametrize(
    "damage", ["missing", "no classes", "empty class", "no image", "truncated"]
)
def test_a_damaged_folder_gives_one_line(damage: str, folder: Path, tmp_path: Path) -> None:
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


def test_hidden_files_and_folders_are_ignored(folder: Path) -> None:
    (folder / ".checkpoints").mkdir()
    (folder / "ant" / "._0.png").write_bytes(b"junk")
    (folder / "ant" / "notes.txt").write_text("junk")
    (folder / "ant" / "deeper").mkdir()
    (folder / "ant" / "0.png").rename(folder / "ant" / "deeper" / "0.png")
    (_, labels_n), names = read_folder(folder, None)
    assert (labels_n.tolist(), names) == ([0, 0, 1, 1, 2, 2], ("ant", "bee", "cat"))


def test_folders_named_train_and_test_are_splits(
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
    assert "test, train, valid are read as splits, not as classes" in capsys.readouterr().err
    (tmp_path / "published" / "other").mkdir()
    with pytest.raises(InputError, match="no pictures in other"):
        ImageDataModule("image_folder", path=str(tmp_path / "published"))
    (tmp_path / "published" / "other").rmdir()
    (tmp_path / "published" / "test" / "cat").rename(tmp_path / "published" / "test" / "dog")
    with pytest.raises(
        InputError, match="test has the classes ant, bee, dog, but train has ant, bee, cat"
    ):
        ImageDataModule("image_folder", path=str(tmp_path / "published"))
