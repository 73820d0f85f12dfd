"""Pictures of all modes, as training images and as outliers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from netinv_lightning.data.outliers import outliers
from netinv_lightning.data.pictures import in_8_bits
from netinv_lightning.data.specs import CIFAR10
from netinv_lightning.data.user_files import read_folder
from netinv_lightning.errors import InputError


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
    exif[0x112] = 6  # rotate by 90 degrees clockwise
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


def test_pictures_of_unknown_range_or_too_large_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        InputError,
        match=r"0.tif cannot be read \(its pixels are float32; save it with 8 or 16 bits\)",
    ):
        pictures(tmp_path / "float", Image.new("F", (8, 8), 0.5), "0.tif")
    monkeypatch.setattr("netinv_lightning.data.pictures.LARGEST", 63)
    with pytest.raises(InputError, match=r"0.png has 64 pixels, but at most 63 are allowed"):
        pictures(tmp_path / "large", Image.new("L", (8, 8)))


def test_grey_pictures_stay_grey_on_the_given_background() -> None:
    picture = Image.new("LA", (3, 1), (200, 255))
    picture.putpixel((1, 0), (200, 0))
    picture.putpixel((2, 0), (200, 128))
    on_black = in_8_bits(picture, background=(0, 0, 0))
    assert (on_black.mode, list(on_black.tobytes())) == ("L", [200, 0, 100])
    assert list(in_8_bits(picture).tobytes()) == [200, 128, 164]
    colours = Image.new("RGBA", (1, 1), (10, 20, 30, 255))
    assert list(in_8_bits(colours).tobytes()) == [10, 20, 30]
