"""Priors of images without stored statistics: spectrum, similarities of tokens, pixels.

Shape suffixes: B batch, C channels, H height, W width, T tokens, D width of a token.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.networks import CNN, ViT
from netinv_lightning.classifiers.tokens import record_tokens, token_layers
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.inversion import losses, terms
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.image_priors import amplitudes
from netinv_lightning.inversion.terms import Step

SPEC = DataSpec("made_up", 4, 1, 8, (0.25,), (0.5,), tuple("abcd"))


def power_law_image(slope: float, H: int = 16, W: int = 24) -> Tensor:
    """Return noise [1, 1, H, W] whose amplitude is r^-slope, r the rounded radius."""
    along_H, along_W = torch.fft.fftfreq(H) * min(H, W), torch.fft.fftfreq(W) * min(H, W)
    radius_HW = (along_H[:, None] ** 2 + along_W[None] ** 2).sqrt().round().clamp_min(1)
    noise_HW = torch.rand(H, W, generator=torch.Generator().manual_seed(0))
    spectrum_HW = torch.fft.fft2(noise_HW)
    spectrum_HW = spectrum_HW / spectrum_HW.abs() * radius_HW**-slope * H * W
    return torch.fft.ifft2(spectrum_HW).real[None, None]


def test_the_amplitudes_of_a_power_law_are_read_off() -> None:
    log_amplitude_R = amplitudes(power_law_image(1.5).expand(3, 2, -1, -1))
    expected_R = -1.5 * torch.arange(1, 9).log()  # half of the shorter side of 16
    torch.testing.assert_close(log_amplitude_R, expected_R, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("slope", "asked"), [(1.2, 1.2), (0.5, 1.2), (2.0, 1.0)])
def test_a_power_law_has_the_distance_of_its_slope(slope: float, asked: float) -> None:
    """log A + asked * log r = (asked - slope) * log r, whose variance over r = 1 to 8 is known."""
    distance = losses.power_law_distance(power_law_image(slope), asked)
    expected = (asked - slope) ** 2 * torch.arange(1, 9).log().var(correction=0)
    assert distance.item() == pytest.approx(expected.item(), abs=1e-4)


def test_the_spectrum_does_not_depend_on_place_and_contrast() -> None:
    x_BCHW = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    distance = losses.power_law_distance(x_BCHW)
    moved = losses.power_law_distance(0.2 + 0.5 * x_BCHW.roll((3, 5), dims=(2, 3)))
    assert moved.item() == pytest.approx(distance.item(), rel=1e-4)


def test_a_single_bright_pixel_has_a_flat_spectrum() -> None:
    x_BCHW = torch.zeros(1, 1, 12, 12)
    x_BCHW[..., 4, 7] = 1.0
    torch.testing.assert_close(amplitudes(x_BCHW), torch.full((6,), -math.log(144)))


def test_constant_images_have_a_finite_gradient() -> None:
    x_BCHW = torch.full((2, 1, 8, 8), 0.5, requires_grad=True)
    losses.power_law_distance(x_BCHW).backward()
    assert x_BCHW.grad is not None
    assert x_BCHW.grad.isfinite().all()


def entropy_of_a_normal(deviation: float) -> float:
    return math.log(deviation * math.sqrt(math.tau * math.e))


def test_equal_tokens_have_the_entropy_of_one_kernel() -> None:
    t_BTD = torch.tensor([1.0, 2.0]).expand(2, 5, 2)  # all similarities are 1
    divergence = losses.similarity_divergence(t_BTD, bandwidth=0.1)
    assert divergence.item() == pytest.approx(math.log(2) - entropy_of_a_normal(0.1), abs=1e-4)


def test_two_similarities_add_the_entropy_of_their_shares() -> None:
    """Tokens a, a, b with a and b orthogonal: similarities 1 once and 0 twice."""
    t_BTD = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]]])
    divergence = losses.similarity_divergence(t_BTD, bandwidth=0.05)
    shares = -(math.log(1 / 3) / 3 + math.log(2 / 3) * 2 / 3)
    expected = math.log(2) - entropy_of_a_normal(0.05) - shares
    assert divergence.item() == pytest.approx(expected, abs=1e-4)


def test_even_similarities_have_a_divergence_near_zero() -> None:
    """Directions in half a plane, spaced so that the cosines to the first one are even."""
    even_T = torch.linspace(-1, 1, 801).acos()
    pairs_T2D = torch.stack([torch.stack([a.cos(), a.sin()]) for a in even_T])
    first_T2D = torch.tensor([1.0, 0.0]).expand(801, 2)
    t_BTD = torch.stack([first_T2D, pairs_T2D], dim=1)  # 801 images of two tokens
    one_by_one = torch.stack([losses.similarity_divergence(t[None], 0.02) for t in t_BTD[::80]])
    assert one_by_one.std().item() < 1e-3  # each image has one similarity, wherever it is
    many_TD = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    even = losses.similarity_divergence(many_TD[None], 0.02, tokens=200)
    assert even.item() == pytest.approx(0.0, abs=0.03)  # cosines of 3-D directions are uniform


def test_few_tokens_are_compared_evenly_spaced() -> None:
    t_BTD = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(0))
    few = losses.similarity_divergence(t_BTD, tokens=3)
    assert few.item() == losses.similarity_divergence(t_BTD[:, [0, 4, 8]]).item()


def vit() -> ViT:
    torch.manual_seed(0)
    return ViT(4, 1, 8, patch=2, dim=8, depth=2, heads=2, stem=0)


def step_of(network: nn.Module, x_BCHW: Tensor) -> Step:
    classifier = FrozenClassifier(network, SPEC)
    record_tokens(classifier)
    condition = Conditioning(4, 8).of_labels(torch.arange(len(x_BCHW)) % 4)
    logits_BN, features, normed = classifier.trace(x_BCHW)
    return Step(x_BCHW, condition, logits_BN, features, classifier, normed=normed)


def test_tokens_before_each_layer_norm_are_recorded() -> None:
    x_BCHW = torch.rand(3, 1, 8, 8, requires_grad=True)
    step = step_of(vit(), x_BCHW)
    layers = ["blocks.0.attention.0", "blocks.0.mlp.0", "blocks.1.attention.0", "blocks.1.mlp.0"]
    assert list(step.normed) == [*layers, "norm"]
    assert {t_BTD.shape for t_BTD in step.normed.values()} == {(3, 16, 8)}
    expected = torch.stack([losses.similarity_divergence(t) for t in step.normed.values()]).mean()
    torch.testing.assert_close(terms.patch_similarity(step), expected)
    assert terms.batch_norm(step, pixels=0.0).item() == 0  # tokens are no BatchNorm inputs


def test_without_a_gradient_no_tokens_are_kept() -> None:
    classifier = FrozenClassifier(vit(), SPEC)
    record_tokens(classifier)
    with torch.no_grad():
        assert classifier.trace(torch.rand(3, 1, 8, 8))[2] == {}


class ChannelNorms(nn.Module):
    """LayerNorm over vectors and maps, which are no tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.of_maps, self.of_vectors = nn.LayerNorm([1, 8, 8]), nn.LayerNorm(64)
        self.head = nn.Linear(64, 4)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.head(self.of_vectors(self.of_maps(x_BCHW).flatten(1)))


@pytest.mark.parametrize("network", [ChannelNorms(), CNN(4, 1, 8, stages=[[4]], hidden=4)])
def test_other_networks_have_no_tokens(network: nn.Module) -> None:
    assert token_layers(FrozenClassifier(network, SPEC)) == []


def test_pixel_statistics_compare_with_the_normalisation() -> None:
    """Pixels of mean 0.75 and deviation 0.25 against N(0.25, 0.5^2): (1^2 + 0.5^2) / 1."""
    x_BCHW = torch.tensor([0.5, 1.0]).repeat(32).view(1, 1, 8, 8).expand(4, 1, 8, 8)
    step = step_of(vit(), x_BCHW)
    assert terms.pixel_statistics(step).item() == pytest.approx(1.25, rel=1e-4)
    assert terms.batch_norm(step).item() == terms.pixel_statistics(step).item()
