"""Sources of the images of a distillation: a replay buffer of inverted images, and noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from netinv_lightning.data.specs import DataSpec
from netinv_lightning.downstream.replay_buffer import ReplayBuffer, noise_batches

CPU = torch.device("cpu")
SPEC = DataSpec("made_up", 3, 1, 4, (0.0,), (1.0,), ("a", "b", "c"))


def test_noise_depends_only_on_seed_and_batch_number() -> None:
    torch.testing.assert_close(
        noise_batches(SPEC, 50, 0, CPU)(7), noise_batches(SPEC, 50, 0, CPU)(7), rtol=0, atol=0
    )
    assert not torch.equal(noise_batches(SPEC, 50, 0, CPU)(7), noise_batches(SPEC, 50, 0, CPU)(8))
    assert not torch.equal(noise_batches(SPEC, 50, 0, CPU)(7), noise_batches(SPEC, 50, 1, CPU)(7))
    noise_BCHW = noise_batches(SPEC, 1000, 0, CPU)(0)
    assert noise_BCHW.shape == (1000, 1, 4, 4)
    assert float(noise_BCHW.mean()) == pytest.approx(0.5, abs=0.02)


def buffer_of(seed: int, *parts: Tensor) -> ReplayBuffer:
    buffer = ReplayBuffer(50, seed, CPU)
    for part in parts:
        buffer.add(part)
    return buffer


def test_buffer_draws_old_and_new_images() -> None:
    levels_nCHW = torch.arange(6.0).view(6, 1, 1, 1) / 255
    buffer = buffer_of(0, levels_nCHW[:4])
    assert {round(255 * level) for level in buffer.draw(0).flatten().tolist()} == {0, 1, 2, 3}
    buffer.add(levels_nCHW[4:] + 0.4 / 255)  # rounding changes this by less than half a level
    assert len(buffer) == 6
    assert buffer.images_nCHW.flatten().tolist() == [0, 1, 2, 3, 4, 5]
    assert buffer.images_nCHW.dtype == torch.uint8
    assert {round(255 * level) for level in buffer.draw(0).flatten().tolist()} == {0, 1, 2, 3, 4, 5}


def test_batch_depends_only_on_seed_number_and_images() -> None:
    images_nCHW = torch.rand(20, 1, 2, 2)
    before = torch.get_rng_state()
    whole, parts = buffer_of(0, images_nCHW), buffer_of(0, images_nCHW[:7], images_nCHW[7:])
    parts.draw(3)  # earlier draws have no effect
    assert torch.equal(whole.draw(7), parts.draw(7))
    assert not torch.equal(whole.draw(7), whole.draw(8))
    assert not torch.equal(whole.draw(7), buffer_of(1, images_nCHW).draw(7))
    assert torch.equal(torch.get_rng_state(), before)
