"""Noise images: ranges, moments, seeds."""

from __future__ import annotations

import torch

from netinv_lightning.data.noise import gaussian_noise, mixed_noise, uniform_noise

SHAPE = (3, 16, 16)


def test_noise_depends_on_its_seed_only() -> None:
    for noise in (uniform_noise, gaussian_noise, mixed_noise):
        state = torch.get_rng_state()
        first_nCHW = noise(SHAPE, 7, 3)
        assert first_nCHW.shape == (7, *SHAPE)
        assert torch.equal(first_nCHW, noise(SHAPE, 7, 3))
        assert not torch.equal(first_nCHW, noise(SHAPE, 7, 4))
        assert torch.equal(torch.get_rng_state(), state)


def test_uniform_noise_equals_a_draw_of_the_global_generator() -> None:
    with torch.random.fork_rng([]):
        torch.manual_seed(5)
        expected_nCHW = torch.rand(4, *SHAPE)
    assert torch.equal(uniform_noise(SHAPE, 4, 5), expected_nCHW)


def test_gaussian_noise_is_centred_and_clipped() -> None:
    noise_nCHW = gaussian_noise(SHAPE, 100, 0)
    assert (float(noise_nCHW.min()), float(noise_nCHW.max())) == (0.0, 1.0)
    assert abs(float(noise_nCHW.mean()) - 0.5) < 0.01
    beyond = float(((noise_nCHW == 0) | (noise_nCHW == 1)).float().mean())
    assert abs(beyond - 0.0455) < 0.01  # outside two standard deviations
