"""Parts of the page: nearest images, uploaded pictures, bars and units."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from PIL import Image

from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.data.outliers import in_shape_of
from netinv_lightning.data.specs import CIFAR10, MNIST, DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.explorer import markup
from netinv_lightning.explorer.links import LONGEST, Choice, Range, read_query, write_query
from netinv_lightning.explorer.neighbours import (
    FEATURES,
    PIXELS,
    Neighbours,
    affordable,
    real_images,
)
from netinv_lightning.explorer.pictures import conversion_rule, read_picture, takes_pictures

Compose = Callable[..., DictConfig]


def test_the_nearest_image_by_pixels_and_by_features() -> None:
    classifier = load_zoo("mnist_mlp")
    x_mCHW = torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    among = Neighbours(
        Images(x_mCHW, torch.tensor([5, 4, 3, 2, 1, 0])), classifier, "planted images"
    )
    _, features = classifier.logits_and_features(x_mCHW)
    f_mD = features["penultimate"]

    # Brightness, contrast and the norm of the features have no effect.
    dimmed = among.nearest(0.3 * x_mCHW[2] + 0.5, f_mD[4], PIXELS)
    assert (dimmed.label, pytest.approx(dimmed.similarity, abs=1e-5)) == (3, 1.0)
    assert torch.equal(dimmed.image_CHW, x_mCHW[2])
    scaled = among.nearest(0.3 * x_mCHW[2] + 0.5, 7 * f_mD[4], FEATURES)
    assert (scaled.label, pytest.approx(scaled.similarity, abs=1e-5)) == (1, 1.0)
    other = among.nearest(x_mCHW[0], f_mD[0].roll(1), FEATURES)
    cosine_m = F.cosine_similarity(f_mD, f_mD[0].roll(1)[None])
    assert (other.label, other.similarity) == (
        5 - int(cosine_m.argmax()),
        pytest.approx(float(cosine_m.max()), abs=1e-5),
    )


def test_real_images_are_described_or_reported_missing(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NETINV_DATA", raising=False)
    images, note = real_images(compose("data=mnist5k").data, MNIST)
    assert images is not None
    assert images.images_nCHW.shape == (3600, 1, 28, 28)
    assert note == "3,600 training images of mnist5k"

    none = (None, "No real images: the run names no data of its classifier.")
    assert real_images(compose("data=npz").data, MNIST) == none
    assert real_images(compose("data=mnist").data, replace(MNIST, name="own")) == none
    gone = tmp_path / "gone"
    images, note = real_images(compose("data=mnist", f"data.root={gone}").data, MNIST)
    assert images is None
    assert note == (
        f"No real images: mnist is not in {gone}. "
        "Set NETINV_DATA to the folder of the data sets, and start again."
    )
    assert not gone.exists()
    monkeypatch.setenv("NETINV_DATA", str(tmp_path))
    images, note = real_images(compose("data=mnist", f"data.root={gone}").data, MNIST)
    assert images is None
    assert "netinv explore does not download data" in note
    images, note = real_images(compose("data=mnist5k").data, CIFAR10)
    assert images is None
    assert "the classifier was trained on cifar10" in note


def test_fewer_large_images_are_compared() -> None:
    large = replace(CIFAR10, image_size=224)
    assert [affordable(spec, 5000) for spec in (MNIST, CIFAR10, large)] == [5000, 5000, 398]


def test_pictures_are_taken_for_grey_and_coloured_images_only() -> None:
    signals = DataSpec("s", 2, 1, (128,), (0.0,), (1.0,), ("a", "b"))
    five = DataSpec("f", 2, 5, 28, (0.0,) * 5, (1.0,) * 5, ("a", "b"))
    assert [takes_pictures(spec) for spec in (MNIST, CIFAR10, signals, five)] == [1, 1, 0, 0]


def test_a_picture_is_converted_to_the_input_shape(tmp_path: Path) -> None:
    grey_HW = (torch.arange(28 * 28) % 256).to(torch.uint8).view(28, 28)
    Image.fromarray(grey_HW.numpy()).save(tmp_path / "grey.png")
    assert torch.equal(read_picture(tmp_path / "grey.png", MNIST), grey_HW[None].float() / 255)
    wide_CHW = torch.randint(0, 256, (3, 40, 60), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )
    wide = Image.fromarray(wide_CHW.permute(1, 2, 0).numpy())
    wide.save(tmp_path / "wide.png")
    for spec in (MNIST, CIFAR10):
        assert torch.equal(
            read_picture(tmp_path / "wide.png", spec),
            in_shape_of(spec, wide_CHW[None].float() / 255)[0],
        )
    exif = Image.Exif()
    exif[274] = 3  # rotated by 180 degrees
    wide.save(tmp_path / "turned.png", exif=exif)
    turned_CHW = in_shape_of(CIFAR10, wide_CHW.flip(1, 2)[None].float() / 255)[0]
    torch.testing.assert_close(read_picture(tmp_path / "turned.png", CIFAR10), turned_CHW)
    Image.new("RGBA", (28, 28), (255, 255, 255, 0)).save(tmp_path / "clear.png")
    assert read_picture(tmp_path / "clear.png", CIFAR10).max() == 0
    Image.fromarray(grey_HW.numpy().astype("uint16") * 257).save(tmp_path / "deep.png")
    torch.testing.assert_close(
        read_picture(tmp_path / "deep.png", MNIST), grey_HW[None].float() / 255
    )
    assert "luminance" in conversion_rule(MNIST)
    assert "three channels" in conversion_rule(CIFAR10)
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(InputError, match=r"text\.png: is not a readable picture"):
        read_picture(tmp_path / "text.png", MNIST)


def test_bars_show_both_distributions_and_escape_names() -> None:
    target_N, predicted_N = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.5, 0.25])
    bars = markup.probabilities(predicted_N, target_N, ["<script>1</script>", "a&b", "c"])
    assert "<script>" not in bars
    assert "&lt;script&gt;1&lt;/script&gt;" in bars
    assert "a&amp;b" in bars
    assert f"= {0.5 * math.log(2):.3f}" in bars
    assert re.findall(r'data-probability="([\d.]+)"', bars) == ["0.250000", "0.500000", "0.250000"]
    assert re.findall(r'class="(?:prediction|target)" style="width: ([\d.]+)%', bars) == [
        "25.0",
        "50.0",
        "50.0",
        "50.0",
        "25.0",
        "0.0",
    ]
    assert markup.divergence(target_N, target_N) == 0.0


def test_only_the_largest_of_many_classes_have_bars() -> None:
    predicted_N, target_N = torch.zeros(100), torch.zeros(100)
    predicted_N[70:], target_N[3] = torch.arange(30) / 435, 1.0
    labels = [
        int(label)
        for label in re.findall(
            r'data-class="(\d+)"',
            markup.probabilities(predicted_N, target_N, [str(k) for k in range(100)]),
        )
    ]
    assert labels == [3, *range(89, 100)]


def test_top_units_are_the_largest_features() -> None:
    f_D = torch.zeros(64)
    f_D[[5, 60, 9]] = torch.tensor([2.0, 4.0, 1.0])
    bars = markup.units(f_D, "penultimate")
    assert re.findall(r'data-unit="(\d+)"', bars)[:3] == ["60", "5", "9"]
    assert re.findall(r"width: ([\d.]+)%", bars)[:3] == ["100.0", "50.0", "25.0"]


def test_only_links_with_allowed_values_are_read() -> None:
    fields = {
        "over": Choice(("all classes", "a to b")),
        "label": Choice((0, 7)),
        "dropout": Choice((False, True)),
        "first": Range(0, 9),
        "weight": Range(0.0, 1.0, missing="0"),
    }
    for values in (["a to b", 7, True, 3, 0.25], ["all classes", 0, False, 9, 0.0]):
        assert read_query(fields, write_query(fields, values)) == values
    query = write_query(fields, ["a to b", 7, True, 3, 0.0])
    assert query == "over=a+to+b&label=7&dropout=True&first=3"
    for wrong in (
        query.replace("7", "5"),
        query.replace("first=3", "first=10"),
        query.replace("first=3", "first=3.5"),
        query.replace("dropout=True&", ""),
        f"{query}&weight=nan",
        f"{query}&weight=1e9",
        f"{query}&x={'y' * LONGEST}",
    ):
        assert read_query(fields, wrong) is None, wrong
