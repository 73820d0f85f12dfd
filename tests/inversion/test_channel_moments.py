"""Mean and variance per channel: hand-computed, against torch, and their derivatives."""

from __future__ import annotations

import pytest
import torch

from netinv_lightning.inversion.channel_moments import moments


def test_moments_of_hand_computed_values() -> None:
    x_BC = torch.tensor([[[1.0, 3.0], [2.0, 2.0]], [[5.0, 7.0], [2.0, 6.0]]])  # [2, 2 channels, 2]
    mean_C, var_C = moments(x_BC)
    assert mean_C.tolist() == pytest.approx([4.0, 3.0])
    assert var_C.tolist() == pytest.approx([5.0, 3.0])  # (9+1+1+9)/4, (1+1+1+9)/4


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 5), (6, 3, 4, 5)])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_moments_equal_those_of_torch_far_from_zero(
    shape: tuple[int, ...], memory: torch.memory_format
) -> None:
    x_BC = 100 + torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if len(shape) == 4:
        x_BC = x_BC.contiguous(memory_format=memory)
    over = [dim for dim in range(len(shape)) if dim != 1]
    mean_C, var_C = moments(x_BC)
    torch.testing.assert_close(mean_C, x_BC.mean(over))
    torch.testing.assert_close(var_C, x_BC.var(over, correction=0), rtol=1e-4, atol=0)


@pytest.mark.parametrize("shape", [(4, 2), (3, 2, 2, 2)])
def test_first_and_second_derivatives_are_those_of_finite_differences(
    shape: tuple[int, ...],
) -> None:
    generator = torch.Generator().manual_seed(0)
    x_BC = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(moments, (x_BC,))
    assert torch.autograd.gradgradcheck(moments, (x_BC,))
