"""Where the images of a distillation come from: a memory of inverted images, and noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from netinv_lightning.data.specs import DataSpec
from netinv_lightning.downstream.replay import Memory, of_noise

CPU = torch.device("cpu")
SPEC = DataSpec("made_up", 3, 1, 4, (0.0,), (1.0,), ("a", "b", "c"))


def test_noise_depends_on_seed_and_number_alone() -> None:
    torch.testing.assert_close(
        of_noise(SPEC, 50, 0, CPU)(7), of_noise(SPEC, 50, 0, CPU)(7), rtol=0, atol=0
    )
    assert not torch.equal(of_noise(SPEC, 50, 0, CPU)(7), of_noise(SPEC, 50, 0, CPU)(8))
    assert not torch.equal(of_noise(SPEC, 50, 0, CPU)(7), of_noise(SPEC, 50, 1, CPU)(7))
    noise_BCHW = of_noise(SPEC, 1000, 0, CPU)(0)
    assert noise_BCHW.shape == (1000, 1, 4, 4)
    assert float(noise_BCHW.mean()) == pytest.approx(0.5, abs=0.02)


def remembering(seed: int, *parts: Tensor) -> Memory:
    memory = Memory(50, seed, CPU)
    for part in parts:
        memory.add(part)
    return memory


def test_a_memory_draws_what_came_in_old_and_new() -> None:
    levels_nCHW = torch.arange(6.0).view(6, 1, 1, 1) / 255
    memory = remembering(0, levels_nCHW[:4])
    assert {round(255 * level) for level in memory.draw(0).flatten().tolist()} == {0, 1, 2, 3}
    memory.add(levels_nCHW[4:] + 0.4 / 255)  # less than half a level
    assert len(memory) == 6
    assert memory.images_nCHW.flatten().tolist() == [0, 1, 2, 3, 4, 5]
    assert memory.images_nCHW.dtype == torch.uint8
    assert {round(255 * level) for level in memory.draw(0).flatten().tolist()} == {0, 1, 2, 3, 4, 5}


def test_a_memory_depends_on_seed_number_and_images_alone() -> None:
    images_nCHW = torch.rand(20, 1, 2, 2)
    before = torch.get_rng_state()
    whole, parts = remembering(0, images_nCHW), remembering(0, images_nCHW[:7], images_nCHW[7:])
    parts.draw(3)  # what was drawn before changes nothing
    assert torch.equal(whole.draw(7), parts.draw(7))
    assert not torch.equal(whole.draw(7), whole.draw(8))
    assert not torch.equal(whole.draw(7), remembering(1, images_nCHW).draw(7))
    assert torch.equal(torch.get_rng_state(), before)
