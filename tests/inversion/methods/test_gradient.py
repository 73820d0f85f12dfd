"""`method=gradient`: inversion by gradient descent on the pixels, and the cost of both methods."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.methods.gradient import PixelInversion
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.parametrisations import Fourier, Pixel
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.training.seeds import own_randomness

CPU = torch.device("cpu")
SIDE = 8
SPEC = DataSpec("made_up", 2, 1, SIDE, (0.0,), (1.0,), ("a", "b"))
CE = {"ce": {"weight": 1.0}}


def linear_pixels(
    weight_NP: Tensor, terms: Mapping[str, Mapping[str, float]] = CE, **options: float
) -> PixelInversion:
    """Return a pixel inversion of the linear classifier logits = W image."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 2, bias=False))
    with torch.no_grad():
        network[1].weight.copy_(weight_NP)
    perturbation = options.pop("perturbation", None)
    assert perturbation is None or isinstance(perturbation, Perturbation)
    return PixelInversion(
        Conditioning(2, SIDE, "label"),
        FrozenClassifier(network, SPEC),
        Objective(terms),
        perturbation,
        **options,
    )  # type: ignore[arg-type]


def drawn(pixels: PixelInversion, labels: list[int], seed: int = 0) -> Tensor:
    with own_randomness(seed, CPU):
        return pixels.draw(pixels.conditioning.of_labels(torch.tensor(labels)))


def some_weight() -> Tensor:
    return torch.randn(2, SIDE**2, generator=torch.Generator().manual_seed(3))


def test_the_first_step_follows_the_gradient() -> None:
    """Test that Adam's first step changes each parameter by lr, along the sign of the gradient.

    The start is a grey image. The gradient is the difference of the two rows of the weight matrix.
    """
    weight_NP = 0.1 * some_weight()
    x_BCHW = drawn(linear_pixels(weight_NP, steps=1, lr=0.3, init_std=0.0), [0, 1])
    towards_P = 0.3 * (weight_NP[0] - weight_NP[1]).sign().view(SIDE, SIDE)
    torch.testing.assert_close(
        x_BCHW[:, 0], torch.stack([towards_P, -towards_P]).sigmoid(), rtol=1e-3, atol=0
    )


def test_a_step_does_not_depend_on_the_batch_size() -> None:
    """Test that small gradients are not lost in Adam's epsilon, whatever the batch size.

    The objective is a mean over images, so the gradient per image is divided by the batch size. The
    logits are so small that this division would bring the gradient close to Adam's epsilon.
    """
    of_two = drawn(linear_pixels(1e-6 * some_weight(), steps=3, init_std=0.0), [0, 1])
    of_many = drawn(linear_pixels(1e-6 * some_weight(), steps=3, init_std=0.0), [0, 1] * 64)
    torch.testing.assert_close(of_many[:2], of_two, rtol=1e-6, atol=0)
    assert (of_two - 0.5).abs().max() > 0.1


def test_jitter_spreads_the_change_to_neighbouring_pixels() -> None:
    """Invert a classifier that depends on a single pixel.

    Without jitter only this pixel changes. With shifts of up to 1 its eight neighbours change too,
    and no other pixel.
    """
    weight_NP = torch.zeros(2, SIDE, SIDE)
    weight_NP[0, 3, 4] = 1.0
    for jitter, side in ((0, 1), (1, 3)):
        x_BCHW = drawn(
            linear_pixels(weight_NP.flatten(1), steps=80, init_std=0.0, jitter=jitter), [0, 0]
        )
        moved = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        moved[3 - side // 2 : 4 + side // 2, 4 - side // 2 : 5 + side // 2] = True
        assert torch.equal(x_BCHW[0, 0] > 0.5, moved)
        assert (x_BCHW[0, 0][~moved] == 0.5).all()


def spec_of(channels: int, side: int) -> DataSpec:
    return DataSpec("own", 2, channels, side, (0.0,) * channels, (1.0,) * channels, ("a", "b"))


@pytest.mark.parametrize("side", [28, 32, 9])
def test_fourier_noise_has_unit_variance_and_a_1_over_f_spectrum(side: int) -> None:
    image = Fourier(spec_of(3, side), CPU)
    theta = torch.randn(4000, *image.shape, generator=torch.Generator().manual_seed(0))
    before_sigmoid = image(theta).logit()
    assert before_sigmoid.shape == (4000, 3, side, side)
    assert float(before_sigmoid.var()) == pytest.approx(1.0, rel=0.05)
    power_HW = torch.fft.fft2(before_sigmoid).abs().square().mean(dim=(0, 1))
    for k in (1, 2):  # at twice the frequency, half the amplitude and a quarter of the power
        assert float(power_HW[k, 1] / power_HW[2 * k, 2]) == pytest.approx(
            (4 * k**2 + 4) / (k**2 + 1), rel=0.1
        )


def test_fourier_parameters_are_frequencies() -> None:
    image = Fourier(spec_of(1, 16), CPU)
    theta = torch.zeros(2, *image.shape)
    theta[0, 0, 0, 0, 0] = 1.0  # the mean
    theta[1, 0, 0, 0, 3] = 1.0  # three waves across
    constant, waves = image(theta).logit()[:, 0]
    assert float(constant.std()) == pytest.approx(0.0, abs=1e-5)
    assert float(constant.mean()) > 0
    wave_W = torch.cos(2 * math.pi * 3 * torch.arange(16) / 16)
    torch.testing.assert_close(waves, (waves[0, 0] * wave_W).expand(16, 16), rtol=1e-4, atol=1e-5)


def test_pixel_parameters_are_pixels() -> None:
    theta = torch.randn(2, 3, 5, 5)
    image = Pixel(spec_of(3, 5), CPU)
    assert image.shape == (3, 5, 5)
    assert torch.equal(image(theta), theta.sigmoid())


@pytest.mark.parametrize("parametrisation", ["pixel", "fourier"])
def test_images_are_assigned_the_requested_classes(parametrisation: str) -> None:
    """Test the default 50 steps with an MNIST classifier.

    The accuracy is at least 0.95 (chance is 0.1), pixels are in [0, 1], and the classifier is
    unchanged.
    """
    classifier = load_zoo("mnist_cnn")
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    objective = Objective({"kl": {"weight": 1.0}, "ce": {"weight": 1.0}, "cosine": {"weight": 1.0}})
    pixels = PixelInversion(
        Conditioning(10, 28), classifier, objective, parametrisation=parametrisation
    )
    with own_randomness(0, CPU):
        condition = pixels.conditioning.sample(20)
        x_BCHW = pixels.draw(condition)
    assert float((classifier(x_BCHW).argmax(dim=1) == condition.label_B).float().mean()) >= 0.95
    assert 0 <= float(x_BCHW.min()) <= float(x_BCHW.max()) <= 1
    assert not x_BCHW.requires_grad
    assert all(torch.equal(before[name], value) for name, value in classifier.state_dict().items())


def test_drawn_images_are_not_optimised_again() -> None:
    pixels = linear_pixels(some_weight(), steps=4, jitter=2)
    first = drawn(pixels, [0, 1, 1])
    assert (pixels.images, pixels.forwards, pixels.backwards) == (3, 12, 12)
    assert torch.equal(drawn(pixels, [0, 1, 1]), first)
    assert pixels.forwards == 12
    others = drawn(pixels, [0, 1, 1], seed=1), drawn(pixels, [0, 1, 0])
    assert pixels.forwards == 36
    assert not any(torch.equal(other, first) for other in others)
    assert torch.equal(drawn(linear_pixels(some_weight(), steps=4, jitter=2), [0, 1, 1]), first)


def test_the_random_state_advances_equally_for_stored_images() -> None:
    pixels, after = linear_pixels(some_weight(), steps=1, jitter=2), []
    for _ in range(2):
        with own_randomness(0, CPU):
            pixels.draw(pixels.conditioning.of_labels(torch.tensor([0, 1])))
            after.append(torch.rand(()))
    assert after[0] == after[1]


def test_a_single_image_works_with_terms_that_compare_images() -> None:
    pixels = linear_pixels(
        some_weight(), {"ce": {"weight": 1.0}, "cosine": {"weight": 1.0}}, steps=2
    )
    x_BCHW = drawn(pixels, [1])
    assert x_BCHW.shape == (1, 1, SIDE, SIDE)
    assert x_BCHW.isfinite().all()


@pytest.mark.parametrize(
    ("terms", "perturbation", "forwards", "backwards"),
    [
        ({"ce": {"weight": 1.0}, "variation": {"weight": 1.0}}, None, 1, 1),
        (
            {"ce": {"weight": 0.0}, "variation": {"weight": 1.0}},
            None,
            1,
            0,
        ),  # the classifier gives no gradient
        ({"ce": {"weight": 1.0}, "ce_perturbed": {"weight": 1.0}}, None, 2, 2),
        ({"ce": {"weight": 1.0}, "ce_perturbed": {"weight": 0.0}}, None, 2, 1),
        (
            {"ce": {"weight": 1.0}, "ce_perturbed": {"weight": 1.0}},
            Perturbation(direction="adversarial", steps=3),
            5,
            5,
        ),
        ({"ce": {"weight": 1.0}, "gradient": {"weight": 1.0}}, None, 2, 2),
        ({"ce": {"weight": 1.0}, "gradient": {"weight": 1.0, "per_image": False}}, None, 2, 2),
    ],
)
def test_forward_and_backward_passes_are_counted(
    terms: Mapping[str, Mapping[str, float]],
    perturbation: Perturbation | None,
    forwards: int,
    backwards: int,
) -> None:
    """Count forward and backward passes per image, for 2 steps of a batch of 6 images."""
    pixels = linear_pixels(
        some_weight(),
        terms,  # type: ignore[arg-type]
        steps=2,
        perturbation=perturbation,
    )
    drawn(pixels, [0, 1, 0, 1, 0, 1])
    assert (pixels.forwards, pixels.backwards) == (2 * 6 * forwards, 2 * 6 * backwards)
