"""Mean and variance per channel and their gradients, against autograd through the definition."""

from __future__ import annotations

import pytest
import torch

from netinv_lightning.inversion import losses


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(7, 3), (4, 3, 5, 6)])
def test_moments_and_their_gradients_equal_the_definition(
    shape: tuple[int, ...], layout: torch.memory_format
) -> None:
    x_BC = 3 + 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    x_BC = x_BC if len(shape) == 2 else x_BC.to(memory_format=layout)
    one_BC, two_BC = (x_BC.clone().requires_grad_() for _ in range(2))
    dims = [0, *range(2, len(shape))]
    expected = one_BC.mean(dim=dims), one_BC.var(dim=dims, correction=0)
    found = losses.moments(two_BC)
    for values in (expected, found):
        (values[0] * torch.tensor([1.0, -2, 3])).sum().backward(retain_graph=True)
        (values[1] * torch.tensor([0.5, 1, -1])).sum().backward()
    for value, own in zip(expected, found, strict=True):
        torch.testing.assert_close(own, value)
    torch.testing.assert_close(two_BC.grad, one_BC.grad)


def test_the_mean_alone_has_a_gradient() -> None:
    x_BC = torch.randn(4, 2, requires_grad=True)
    losses.moments(x_BC)[0].sum().backward()
    torch.testing.assert_close(x_BC.grad, torch.full((4, 2), 0.25))
