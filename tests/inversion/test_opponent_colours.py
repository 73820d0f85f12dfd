"""`generator.opponent_colours`: brightness and colour differences instead of RGB."""

from __future__ import annotations

import pytest
import torch

from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.generator import Generator
from netinv_lightning.inversion.opponent_colours import SCALES, rgb_of_opponent

CONDITIONING = Conditioning(4, 28)


def test_each_axis_changes_its_own_colours() -> None:
    x_BCHW = torch.eye(3)[:, :, None, None]  # one image per axis
    brightness, red_blue, green = (
        rgb / scale for rgb, scale in zip(rgb_of_opponent(x_BCHW).flatten(1), SCALES, strict=True)
    )
    assert brightness.tolist() == [1, 1, 1]
    torch.testing.assert_close(red_blue, torch.tensor([1.0, 0, -1]))
    torch.testing.assert_close(green, torch.tensor([-0.5, 1, -0.5]))


def test_the_first_images_differ_mainly_in_brightness() -> None:
    def colourfulness(opponent_colours: bool) -> float:
        torch.manual_seed(0)
        generator = Generator(CONDITIONING, 3, 32, opponent_colours=opponent_colours)
        condition = CONDITIONING.of_labels(torch.arange(4))
        x_BCHW = generator(generator.sample_latent(4), condition).detach()
        brightness_BHW = x_BCHW.mean(dim=1)
        return float((x_BCHW - brightness_BHW[:, None]).std() / brightness_BHW.std())

    assert colourfulness(True) < 0.5 * colourfulness(False)


def test_grey_images_have_no_opponent_colours() -> None:
    with pytest.raises(ValueError, match="opponent_colours=true: is for RGB images"):
        Generator(CONDITIONING, 1, 28, opponent_colours=True)
