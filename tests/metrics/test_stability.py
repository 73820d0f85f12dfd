"""Disturbances and stability, against explicit formulas and by hand.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from netinv_lightning.metrics.stability import DISTURBANCES, Stability
from netinv_lightning.training.distributed import Stream


def images(B: int = 40, C: int = 3, side: int = 8) -> Tensor:
    return torch.rand(B, C, side, side, generator=torch.Generator().manual_seed(0))


def test_quantisation_to_256_levels() -> None:
    x_BCHW = images()
    levels = DISTURBANCES["quantised"](x_BCHW, Stream(0)) * 255
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    assert (levels / 255 - x_BCHW).abs().max() <= 0.5 / 255 + 1e-6


def test_blur_equals_the_explicit_gaussian() -> None:
    x_BCHW = torch.zeros(1, 2, 5, 5)
    x_BCHW[0, 1, 2, 2] = 1
    side = math.exp(-2)  # one pixel away, with a standard deviation of half a pixel
    row = torch.tensor([0, side, 1, side, 0]) / (1 + 2 * side)
    blurred = DISTURBANCES["blur"](x_BCHW, Stream(0))
    torch.testing.assert_close(blurred[0, 1], torch.outer(row, row))
    assert not blurred[0, 0].any()  # channels do not mix
    torch.testing.assert_close(
        DISTURBANCES["blur"](torch.full((1, 1, 4, 4), 0.7), Stream(0)),
        torch.full((1, 1, 4, 4), 0.7),
    )


def test_each_image_is_shifted_by_one_pixel() -> None:
    x_BCHW = images()
    shifted = DISTURBANCES["shift"](x_BCHW, Stream(0))
    moves = {"right": (0, 1), "left": (0, -1), "down": (1, 0), "up": (-1, 0)}
    found = []
    for x_CHW, y_CHW in zip(x_BCHW, shifted, strict=True):
        inner = [
            name
            for name, (dy, dx) in moves.items()
            if torch.equal(x_CHW.roll((dy, dx), (1, 2))[:, 1:-1, 1:-1], y_CHW[:, 1:-1, 1:-1])
        ]
        assert len(inner) == 1
        found += inner
    assert set(found) == set(moves)
    borders = DISTURBANCES["shift"](torch.full((9, 1, 4, 4), 0.3), Stream(0))
    assert torch.equal(borders, torch.full((9, 1, 4, 4), 0.3))


@pytest.mark.parametrize(
    ("kind", "order", "radius"),
    [("l1", 1, 0.02 * 192), ("l2", 2, 0.02 * math.sqrt(192)), ("linf", math.inf, 8 / 255)],
)
def test_noise_has_the_given_norm(kind: str, order: float, radius: float) -> None:
    x_BCHW = images() * 0.2 + 0.4  # far enough from 0 and 1 to avoid clipping
    norms_B = (DISTURBANCES[kind](x_BCHW, Stream(0)) - x_BCHW).flatten(1).norm(order, dim=1)
    if kind == "linf":  # uniform in the ball, so the largest of 192 draws is close to the radius
        assert (norms_B <= radius + 1e-6).all()
        assert (norms_B > 0.9 * radius).all()
    else:
        torch.testing.assert_close(norms_B, torch.full((40,), radius), rtol=1e-4, atol=1e-4)
    edges = DISTURBANCES[kind](torch.ones(5, 3, 8, 8), Stream(0))
    assert edges.max() <= 1
    assert edges.min() < 1


def test_stability_by_hand() -> None:
    """The classifier returns the brightest column, so only horizontal shifts change its output."""
    x_BCHW = torch.zeros(8, 1, 5, 5)
    label_B = torch.tensor([1, 2, 3, 1, 2, 3, 1, 1])
    x_BCHW[torch.arange(8), 0, :, label_B] = 0.8
    label_B[-1] = 4  # classified as 1 or a neighbouring column, so never correct

    def classifier(x_BCHW: Tensor) -> Tensor:
        return x_BCHW.sum(dim=(1, 2))

    metric = Stability(seed=3)
    for part in (slice(0, 3), slice(3, 8)):
        metric.update(x_BCHW[part], label_B[part], classifier)
    values = {name: value.item() for name, value in metric.compute().items()}
    assert {
        name: values[name] for name in ("quantised", "blur", "l1", "l2", "linf")
    } == dict.fromkeys(("quantised", "blur", "l1", "l2", "linf"), pytest.approx(7 / 8))
    source, up_or_down = torch.Generator().manual_seed(3), []
    for count in (3, 5):
        up_or_down += (torch.rand(count, generator=source) < 0.5).tolist()
        # Signs and magnitudes of the noise in L1, L2 and Linf
        for draw in (
            torch.randn,
            torch.rand,
            torch.randn,
            torch.rand,
        ):
            draw(count, 25, generator=source)
    assert 0 < sum(up_or_down[:-1]) < 7
    assert values["shift"] == pytest.approx(sum(up_or_down[:-1]) / 8)


def test_a_reset_repeats_the_draws() -> None:
    def classifier(x_BCHW: Tensor) -> Tensor:
        return x_BCHW[:, 0, :2, 0]  # for some images, noise decides which of two pixels is brighter

    x_BCHW, metric = 0.5 + 0.02 * images(200, 1, 3), Stability(seed=1)
    label_B = classifier(x_BCHW).argmax(dim=1)
    values = []
    for _ in range(2):
        metric.update(x_BCHW, label_B, classifier)
        values.append({name: value.item() for name, value in metric.compute().items()})
        metric.reset()
    assert values[0] == values[1]
    assert values[0]["linf"] < 1
