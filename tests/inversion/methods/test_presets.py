"""The published presets of `method=gradient`, and the options that they need.

Shape suffixes: B batch, C channels, H height, W width, F frequencies along the width.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.specs import CIFAR10, DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.build import build_inversion
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.methods.gradient import PixelInversion
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.parametrisations import Fourier, Normalised, OpponentFourier, Phase
from netinv_lightning.manual.choices import choices
from tests.inversion.methods.linear_classifiers import CPU, drawn, linear_classifier

Compose = Callable[..., DictConfig]
CE = Objective({"ce": {"weight": 1.0}})


@pytest.mark.parametrize(
    ("preset", "terms", "parametrisation"),
    [
        ("deepinversion", {"ce", "batch_norm_l2", "total_variation"}, Normalised),
        (
            "deepinversion_imagenet",
            {"ce", "batch_norm_l2", "total_variation", "pixel_norm"},
            Normalised,
        ),
        ("maco", {"logit"}, Phase),
        ("lucid", {"logit"}, OpponentFourier),
    ],
)
def test_a_preset_chooses_terms_and_options(
    compose: Compose, preset: str, terms: set[str], parametrisation: type
) -> None:
    small = ("method.jitter=2", "method.coarse_steps=0", "classifier.zoo=mnist_cnn")
    cfg = compose(f"method={preset}", *small, "+trainer.max_steps=2")
    assert cfg.method.name == "gradient"
    method = build_inversion(cfg)
    assert isinstance(method, PixelInversion)
    assert set(method.objective.names) == terms
    assert method.parametrisation is parametrisation
    assert drawn(method, [3, 5]).shape == (2, 1, 28, 28)


def test_born_trains_the_generator_on_the_kkt_conditions(compose: Compose) -> None:
    cfg = compose("method=born", "classifier.zoo=mnist_mlp", "application.steps=2")
    assert cfg.method.name == "generator"
    assert set(cfg.loss) == {"stationarity", "duality"}
    assert cfg.loss == compose("loss=born", "classifier.zoo=mnist_mlp").loss
    assert "born" in {choice.name for choice in choices("method")}


def test_lucid_images_get_their_classes(compose: Compose) -> None:
    cfg = compose("method=lucid", "classifier.zoo=mnist_cnn", "method.steps=50", "method.lr=0.3")
    method = build_inversion(cfg)
    label_B = load_zoo("mnist_cnn")(drawn(method, list(range(10)))).argmax(dim=1)
    assert (label_B == torch.arange(10)).float().mean() >= 0.9


def test_normalised_pixels_start_with_the_training_statistics_and_are_clipped() -> None:
    image = Normalised(CIFAR10, CPU)
    theta = 0.1 * torch.randn(500, *image.shape, generator=torch.Generator().manual_seed(0))
    x_BCHW = image(theta)
    mean_C, std_C = torch.tensor(CIFAR10.mean), torch.tensor(CIFAR10.std)
    torch.testing.assert_close(x_BCHW.mean(dim=(0, 2, 3)), mean_C, rtol=0, atol=1e-3)
    torch.testing.assert_close(x_BCHW.std(dim=(0, 2, 3)), 0.1 * std_C, rtol=0.02, atol=0)
    far = theta + 10
    image.project(far)
    torch.testing.assert_close(far, ((1 - mean_C) / std_C).view(-1, 1, 1).expand_as(far))
    torch.testing.assert_close(image(far), torch.ones_like(far))


def test_phases_do_not_change_the_magnitude_of_the_spectrum() -> None:
    image = Phase(DataSpec("own", 2, 1, 16, (0.0,), (1.0,), ("a", "b")), CPU)
    assert image.shape == (1, 16, 9)
    theta = 3 * torch.randn(6, *image.shape, generator=torch.Generator().manual_seed(0))
    before_BCHW = image(theta).double().logit()
    std_B = before_BCHW.std(dim=(1, 2, 3))
    torch.testing.assert_close(std_B, torch.ones_like(std_B), rtol=1e-4, atol=0)
    magnitude_BHF = torch.fft.rfft2(before_BCHW)[:, 0].abs()[:, :, 1:8]  # the others are real
    scale_HF = image.scale_HF[:, 1:8]
    ratio_BHF = magnitude_BHF / scale_HF
    spread_B = ratio_BHF.std(dim=(1, 2)) / ratio_BHF.mean(dim=(1, 2))
    assert spread_B.max() < 1e-3
    assert float(scale_HF[1, 0] / scale_HF[2, 1]) == pytest.approx(2.0)  # 1/f


def test_opponent_axes_mix_the_colours_of_fourier_images() -> None:
    theta = torch.zeros(1, *Fourier(CIFAR10, CPU).shape)
    theta[0, 0, 0, 0, 1] = 1.0  # brightness
    rgb_CHW = OpponentFourier(CIFAR10, CPU)(theta)[0]
    torch.testing.assert_close(rgb_CHW[0], rgb_CHW[2])
    torch.testing.assert_close(rgb_CHW[0], rgb_CHW[1])
    assert (Fourier(CIFAR10, CPU)(theta)[0, 1] == 0.5).all()


def convolutional(sides: list[Tensor]) -> FrozenClassifier:
    """Return a classifier of any size of images, which records the sizes that it gets."""

    class Recording(nn.Sequential):
        def forward(self, x_BCHW: Tensor) -> Tensor:
            sides.append(torch.tensor(x_BCHW.shape[2:]))
            out: Tensor = super().forward(x_BCHW)
            return out

    torch.manual_seed(0)
    network = Recording(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    return FrozenClassifier(network, DataSpec("own", 3, 1, 12, (0.0,), (1.0,), tuple("abc")))


def test_coarse_steps_use_images_of_half_the_size() -> None:
    sides: list[Tensor] = []
    method = PixelInversion(
        Conditioning(3, 12, "label"), convolutional(sides), CE, steps=5, coarse_steps=3
    )
    sides.clear()
    assert drawn(method, [0, 1]).shape == (2, 1, 12, 12)
    assert [int(side[0]) for side in sides] == [6, 6, 6, 12, 12]
    with pytest.raises(InputError, match=r"^method.coarse_steps=1: .* half the size, 2 x 2 pixels"):
        PixelInversion(Conditioning(3, 4, "label"), linear_classifier(), CE, coarse_steps=1)


def test_momentum_and_optimizer_are_those_of_the_keys() -> None:
    """Test that Adam without momentum follows the sign of each gradient, and NAdam differs."""

    def images(**options: object) -> Tensor:
        method = PixelInversion(
            Conditioning(3, 4, "label"), linear_classifier(), CE, steps=4, **options
        )  # type: ignore[arg-type]
        return drawn(method, [0, 2])

    assert not torch.equal(images(beta1=0.5), images())
    assert not torch.equal(images(beta2=0.9), images())
    assert not torch.equal(images(optimizer="nadam"), images())
    assert torch.equal(images(beta1=0.9, beta2=0.999, optimizer="adam", final_lr=1.0), images())
