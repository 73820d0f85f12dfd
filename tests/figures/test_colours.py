"""Colours and styles of classes, for readers with every colour vision and in greyscale."""

from __future__ import annotations

import itertools

import matplotlib
import numpy as np
import pytest
import torch

from netinv_lightning.figures.style import OTHERS_COLOUR, PALETTE, class_styles, style_of_class
from netinv_lightning.figures.titles import short

# Machado, Oliveira and Fernandes 2009, severity 1.0, for linear RGB
SIGHT = {
    "normal": np.eye(3),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
RGB_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
WHITE = np.array([0.95047, 1.0, 1.08883])


def cielab(colours: tuple[str, ...], sight: str = "normal") -> np.ndarray:
    """Return L*, a*, b* of sRGB colours under D65, [c, 3], for a type of colour vision."""
    srgb_c3 = np.array([matplotlib.colors.to_rgb(colour) for colour in colours])
    linear_c3 = np.where(srgb_c3 <= 0.04045, srgb_c3 / 12.92, ((srgb_c3 + 0.055) / 1.055) ** 2.4)
    xyz_c3 = (linear_c3 @ SIGHT[sight].T).clip(0, 1) @ RGB_TO_XYZ.T / WHITE
    f_c3 = np.where(xyz_c3 > (6 / 29) ** 3, np.cbrt(xyz_c3), xyz_c3 / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack(
        [116 * f_c3[:, 1] - 16, 500 * (f_c3[:, 0] - f_c3[:, 1]), 200 * (f_c3[:, 1] - f_c3[:, 2])],
        axis=1,
    )


def test_cielab_of_known_colours() -> None:
    assert cielab(("#ff0000", "#ffffff")) == pytest.approx(
        np.array([[53.24, 80.09, 67.20], [100, 0, 0]]), abs=0.02
    )


@pytest.mark.parametrize(
    ("sight", "least"),
    [("normal", 24), ("deuteranopia", 19), ("protanopia", 21), ("tritanopia", 15.9)],
)
def test_all_pairs_of_colours_are_distinguishable(sight: str, least: float) -> None:
    """A distance of 2.3 is just noticeable; matplotlib's colours reach 4.6 with protanopia."""
    lab_c3 = cielab(PALETTE, sight)
    assert (
        min(np.linalg.norm(one - other) for one, other in itertools.combinations(lab_c3, 2))
        >= least
    )


def test_colours_differ_in_greyscale_and_from_white() -> None:
    lightness_c = np.sort(cielab(PALETTE)[:, 0])
    assert np.diff(lightness_c).min() >= 5
    assert lightness_c[-1] <= 85


@pytest.mark.parametrize("classes", [2, 10, 11, 20])
def test_up_to_twenty_classes_have_distinct_styles(classes: int) -> None:
    styles = class_styles(
        torch.zeros(5, dtype=torch.long), [f"c{label}" for label in range(classes)]
    )
    assert [style.labels for style in styles] == [(label,) for label in range(classes)]
    assert len({(style.colour, style.marker) for style in styles}) == classes
    assert (
        len({style.colour for style in styles})
        == len({style.marker for style in styles})
        == min(classes, 10)
    )


def test_of_many_classes_only_the_ten_largest_have_colours() -> None:
    counts = torch.ones(25, dtype=torch.long)
    counts[[3, 20, 24]] = torch.tensor([4, 9, 5])
    styles = class_styles(
        torch.arange(25).repeat_interleave(counts), [f"c{label}" for label in range(25)]
    )
    assert [style.labels for style in styles[:-1]] == [
        (label,) for label in (*range(8), 20, 24)
    ]  # the first of several equal counts
    assert [style.colour for style in styles[:-1]] == list(PALETTE)
    assert (styles[-1].name, styles[-1].colour, len(styles[-1].labels)) == (
        "others (15 classes)",
        OTHERS_COLOUR,
        15,
    )
    index_N = style_of_class(styles)
    assert [styles[int(index_N[label])].name for label in (3, 20, 8)] == [
        "c3",
        "c20",
        "others (15 classes)",
    ]


def test_long_names_are_truncated() -> None:
    assert short("Ankle boot") == "Ankle boot"
    assert short("a" * 24) == "a" * 24
    assert short("a" * 25) == "a" * 23 + "…"
