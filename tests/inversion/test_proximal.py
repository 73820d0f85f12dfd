"""Each proximal operator has the lowest cost of a grid of points."""

from __future__ import annotations

import pytest
import torch

from netinv_lightning.inversion.layer_chain import Gate
from netinv_lightning.inversion.proximal import lead, prox_gate

GRID = torch.linspace(-3, 3, 61)


def cost_of_gate(gate: Gate, z: torch.Tensor, v: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    out = (gate(z) - w).square().flatten(1).sum(dim=1)
    return (z - v).square().flatten(1).sum(dim=1) + out


@pytest.mark.parametrize(
    ("gate", "sides"),
    [(Gate(0.0), 1), (Gate(0.1), 1), (Gate(1.0, (3,)), 3), (Gate(0.1, (3,)), 3)],
    ids=["relu", "leaky_relu", "max_pool", "leaky_relu_and_max_pool"],
)
def test_no_point_of_a_grid_is_better_than_the_prox(gate: Gate, sides: int) -> None:
    torch.manual_seed(0)
    grid = torch.cartesian_prod(*[GRID[:: 1 if sides == 1 else 3]] * sides).view(-1, 1, sides)
    for _ in range(20):
        v, w = torch.rand(1, 1, sides) * 4 - 2, torch.rand(1, 1, 1) * 4 - 2
        least = float(cost_of_gate(gate, grid, v, w).min())
        reached = float(cost_of_gate(gate, prox_gate(gate, v, w), v, w))
        assert reached <= least + 1e-5
        assert reached >= least - (0.1 if sides == 1 else 1.0)  # the grid is near the minimum


def test_pixels_outside_the_windows_stay() -> None:
    v = torch.randn(2, 3, 5, 7)
    gate = Gate(0.1, (2, 2))
    z = prox_gate(gate, v, torch.randn(2, 3, 2, 3))
    assert torch.equal(z[..., 4:, :], v[..., 4:, :])
    assert torch.equal(z[..., 6:], v[..., 6:])
    torch.testing.assert_close(prox_gate(gate, v, gate(v)), v)


def test_lead_is_the_nearest_point_of_its_set() -> None:
    torch.manual_seed(0)
    grid = torch.cartesian_prod(GRID[::2], GRID[::2], GRID[::2])
    allowed = grid[grid[:, 1] >= grid[:, [0, 2]].amax(dim=1) + 0.6 - 1e-6]
    for _ in range(20):
        v = torch.randn(1, 3)
        z = lead(v, torch.tensor([1]), 0.6)
        assert float(z[0, 1] - z[0, [0, 2]].max()) >= 0.6 - 1e-5
        assert (
            float((z - v).square().sum()) <= float((allowed - v).square().sum(dim=1).min()) + 1e-5
        )
    leading = torch.tensor([[0.0, 2.0, 1.0]])
    assert torch.equal(lead(leading, torch.tensor([1]), 0.6), leading)
