"""Outlier data sets in the image shape of a classifier. Near-OOD sets: test_near_ood.py."""

from __future__ import annotations

import socket
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_ood.dataset import img
from torch import Tensor

from netinv_lightning.data import datasets as sources
from netinv_lightning.data.outlier_names import called, check_outliers
from netinv_lightning.data.outliers import NOISE, in_shape_of, outliers
from netinv_lightning.data.specs import CIFAR10, MNIST, same_data
from netinv_lightning.errors import InputError
from netinv_lightning.ood.detectors import tuning_noise


def test_noise_has_the_expected_moments_and_is_repeatable() -> None:
    uniform = outliers("uniform_noise", CIFAR10, 200, 3, Path())
    assert uniform.shape == (200, 3, 32, 32)
    assert uniform.mean() == pytest.approx(0.5, abs=0.005)
    assert uniform.std() == pytest.approx(12**-0.5, abs=0.005)
    gaussian = outliers("gaussian_noise", MNIST, 200, 3, Path())
    assert gaussian.mean() == pytest.approx(0.5, abs=0.005)
    assert ((gaussian == 0) | (gaussian == 1)).float().mean() == pytest.approx(
        0.0455, abs=0.005
    )  # beyond two standard deviations
    assert torch.equal(gaussian, outliers("gaussian_noise", MNIST, 200, 3, Path()))
    assert not torch.equal(gaussian, outliers("gaussian_noise", MNIST, 200, 4, Path()))


@pytest.mark.parametrize(("name", "channels"), [("uniform_noise", 1), ("gaussian_noise", 3)])
def test_noise_for_training_differs_from_noise_for_testing(name: str, channels: int) -> None:
    spec = replace(MNIST, channels=channels)
    made = [
        outliers(name, spec, 50, seed, Path(), train=train)
        for seed in (0, 1, 2)
        for train in (False, True)
    ]
    assert len({image.numpy().tobytes() for images in made for image in images}) == 300
    assert torch.equal(made[1], NOISE[name](spec.shape, 50, 0))
    # The noise on which ODIN and OODL are tuned
    assert not torch.equal(made[0][:10], tuning_noise(made[0], 20, 0)[:10])


# Data sets in files


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the data sets of `STRUCTURED` as pytorch-ood stores them.

    Each has a few small images, and an empty archive beside them.
    """
    folders = {
        "LSUNCrop": "LSUN/test",
        "LSUNResize": "LSUN_resize/LSUN_resize",
        "Textures": "dtd/images/dotted",
        "TinyImageNet": "tiny-imagenet-200/test/images",
        "Places365": "places365/airfield",
    }
    for number, (name, folder) in enumerate(folders.items()):
        monkeypatch.setattr(getattr(img, name), "tgz_md5", None, raising=False)  # no checksum
        (tmp_path / getattr(img, name).filename).touch()
        write_images(tmp_path / folder, [number * 10 + index for index in range(1, 6)])
    write_images(tmp_path / "tiny-imagenet-200/train/n01443537/images", [90, 91, 92])
    return tmp_path


def write_images(folder: Path, values: list[int]) -> None:
    """Write images of one grey value each, with different sizes and modes."""
    folder.mkdir(parents=True)
    for index, value in enumerate(values):
        Image.new(
            "L" if index % 2 else "RGB", (40 + index, 64), (value,) * (1 if index % 2 else 3)
        ).save(folder / f"{index}.png")


def values_of(images: Tensor) -> list[int]:
    assert torch.allclose(
        images, images.mean(dim=(1, 2, 3), keepdim=True).expand_as(images), atol=1e-4
    )
    return (images.mean(dim=(1, 2, 3)) * 255).round().int().tolist()


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("lsun_crop", 1),
        ("lsun_resize", 11),
        ("textures", 21),
        ("tiny_imagenet", 31),
        ("places365", 41),
    ],
)
def test_data_sets_in_files_are_read_in_the_layout_of_pytorch_ood(
    name: str, first: int, places: Path
) -> None:
    for spec in (MNIST, CIFAR10):
        images = outliers(name, spec, 100, 0, places)
        assert (images.shape, images.dtype) == (
            (5, spec.channels, spec.image_size, spec.image_size),
            torch.float32,
        )
        assert values_of(images) == list(range(first, first + 5))
    few = [values_of(outliers(name, MNIST, 3, seed, places)) for seed in (0, 0, 1, 2, 3)]
    assert few[0] == few[1]
    assert len({tuple(values) for values in few}) > 1
    assert all(
        len(set(values)) == 3 and set(values) <= set(range(first, first + 5)) for values in few
    )


def test_tiny_imagenet_has_a_training_split(places: Path) -> None:
    assert values_of(outliers("tiny_imagenet", CIFAR10, 100, 0, places, train=True)) == [90, 91, 92]
    check_outliers("tiny_imagenet", "cifar10", train=True)
    with pytest.raises(
        InputError,
        match=r"application.exposure=textures: has no training split; choose a set with one",
    ):
        check_outliers("textures", "cifar10", train=True, key="application.exposure")


def test_fast_jpeg_decoding_gives_almost_the_same_image(places: Path) -> None:
    y, x = torch.meshgrid(torch.linspace(0, 7, 600), torch.linspace(0, 9, 800), indexing="ij")
    photo_HWC = (torch.stack([y.sin(), (x + y).cos(), (x * y / 4).sin()], dim=2) * 100 + 128).to(
        torch.uint8
    )
    for file in (folder := places / "dtd/images/dotted").iterdir():
        file.unlink()
    Image.fromarray(photo_HWC.numpy()).save(folder / "photo.jpg", quality=95)
    found = outliers("textures", CIFAR10, 1, 0, places)
    assert (
        found - in_shape_of(CIFAR10, photo_HWC.permute(2, 0, 1)[None].float() / 255)
    ).abs().max() < 0.03


def test_a_damaged_image_gives_one_line(places: Path) -> None:
    (places / "places365/airfield/3.png").write_bytes(b"no image")
    with pytest.raises(
        InputError,
        match=(
            r"^data.root=.*: an image of places365 cannot be read \(.*3.png.*\); "
            r"unpack places365.zip again$"
        ),
    ):
        outliers("places365", MNIST, 100, 0, places)


@pytest.mark.parametrize(
    ("name", "archive", "folder"),
    [
        ("lsun_crop", "LSUN.tar.gz", "LSUN/test"),
        ("lsun_resize", "LSUN_resize.tar.gz", "LSUN_resize/LSUN_resize"),
        ("textures", "textures-r1_0_1.tar.gz", "dtd/images"),
        ("tiny_imagenet", "tiny-imagenet-200.zip", "tiny-imagenet-200"),
        ("places365", "places365.zip", "places365"),
    ],
)
def test_a_missing_data_set_without_a_network_gives_one_line(
    name: str, archive: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_name_server(*args: object, **kwargs: object) -> None:
        raise socket.gaierror("no network")

    monkeypatch.setattr(socket, "getaddrinfo", no_name_server)
    monkeypatch.setitem(sys.modules, "gdown", None)  # whether or not it is installed
    with pytest.raises(InputError) as caught:
        outliers(name, MNIST, 10, 0, tmp_path)
    said = str(caught.value)
    assert said.startswith(
        f"data.root={tmp_path}: the outlier set {name} is missing or damaged (looked in {tmp_path})"
    )
    assert said.endswith(f"Put {archive} there and unpack it, so that its images lie in {folder}")
    assert "\n" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_download_from_a_silent_server_times_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "SILENCE", 0.2)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts the request and never answers
        monkeypatch.setattr(
            img.LSUNCrop, "url", f"http://127.0.0.1:{server.getsockname()[1]}/LSUN.tar.gz"
        )
        with pytest.raises(InputError, match=r"lsun_crop is missing .*timed out"):
            outliers("lsun_crop", MNIST, 10, 0, tmp_path)
    assert socket.getdefaulttimeout() is None


# Invalid input


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("mnist", "mnist"),
        ("mnist5k", "mnist"),
        ("svhn", "svhn_head"),
        ("cifar100_subset", "cifar100"),
    ],
)
def test_the_classifiers_own_data_are_not_outliers(name: str, inside: str) -> None:
    with pytest.raises(
        InputError,
        match=rf"application.outliers={name}: is the classifier's own data \({inside}\); choose",
    ):
        check_outliers(name, inside)


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("emnist_letters", "mnist"),
        ("cifar100", "cifar10"),
        ("cifar10", "cifar100_subset"),
        ("svhn", "mnist"),
    ],
)
def test_other_data_sets_are_outliers(name: str, inside: str) -> None:
    check_outliers(name, inside)
    check_outliers(name, inside, train=True)
    assert not same_data(name, inside)


def test_a_users_own_images_are_an_outlier_set(tmp_path: Path) -> None:
    """Accept an .npz file with X only, and pictures of any size in a folder."""
    gray_nHW = np.stack([np.full((28, 28), value, dtype=np.uint8) for value in (0, 51, 255)])
    np.savez(tmp_path / "mine.npz", X=gray_nHW)
    check_outliers(f"{tmp_path}/mine.npz", "mnist")
    own_nCHW = outliers(f"{tmp_path}/mine.npz", MNIST, 10, 0, Path())
    assert sorted(own_nCHW[:, 0, 0, 0].tolist()) == pytest.approx([0, 0.2, 1])
    assert torch.equal(own_nCHW, own_nCHW[:, :, :1, :1].expand(3, 1, 28, 28))
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    for name, colour in {"a.png": (255, 0, 0), "deep/b.PNG": (0, 0, 255)}.items():
        Image.new("RGB", (40, 50), colour).save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    check_outliers(f"{tmp_path}/photos", "cifar10")
    photos_nCHW = outliers(f"{tmp_path}/photos", CIFAR10, 10, 0, Path())
    assert photos_nCHW.shape == (2, 3, 32, 32)
    assert sorted(photos_nCHW[:, :, 7, 7].tolist()) == [[0, 0, 1], [1, 0, 0]]
    assert len(outliers(f"{tmp_path}/photos", CIFAR10, 1, 0, Path())) == 1
    assert [called(name) for name in (f"{tmp_path}/mine.npz", "photos/", "svhn")] == [
        "mine",
        "photos",
        "svhn",
    ]


def test_own_images_that_cannot_be_read_give_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere/: there is no such file or folder"):
        check_outliers(f"{tmp_path}/nowhere/", "mnist")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: contains no pictures \(.bmp"):
        outliers(f"{tmp_path}/empty", MNIST, 1, 0, Path())
    (tmp_path / "empty" / "a.png").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"a.png cannot be read .*; remove or replace it"):
        outliers(f"{tmp_path}/empty", MNIST, 1, 0, Path())
    np.savez(tmp_path / "mine.npz", Z=np.zeros(3))
    with pytest.raises(
        InputError,
        match=r"mine.npz: contains \['Z'\], but not \['X'\]; save it with np.savez\(path, X=...\)",
    ):
        outliers(f"{tmp_path}/mine.npz", MNIST, 1, 0, Path())


def test_an_unknown_data_set_is_refused_with_the_closest_name() -> None:
    with pytest.raises(
        InputError, match=r"application.outliers=cifar: there is no such set; .*cifar10"
    ):
        check_outliers("cifar", "mnist")
    with pytest.raises(
        InputError,
        match=r"application.exposure=texture: there is no such set; did you mean 'textures'\?",
    ):
        check_outliers("texture", "mnist", key="application.exposure")
