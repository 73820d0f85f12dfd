"""Proximal operators of the layers of a network, all in closed form.

    prox_gate(v, w) = argmin_z |z - v|^2 + |gate(z) - w|^2        gate: LeakyReLU, then max-pooling
    lead(v)         = argmin_z |z - v|^2  with  z_y >= z_j + margin  for every other class j

Both have the same form. In a window, the entries above a threshold t are lowered to t and the
others stay, so that only t is unknown. The cost is piecewise quadratic in t: between the k-th and
the (k + 1)-th largest entry it has one minimum, which is clipped to that piece. The best of these
minima is the solution. The cost of a gate is not convex, so every piece is tried, on both sides of
the kink of the LeakyReLU.

Shape suffixes: B batch, N classes, n entries of a window, k number of lowered entries minus one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from netinv_lightning.inversion.layer_chain import Gate


def prox_gate(gate: Gate, v: Tensor, w: Tensor) -> Tensor:
    """Return argmin_z |z - v|^2 + |gate(z) - w|^2.

    Args:
        gate: A LeakyReLU, a max-pooling, or a LeakyReLU and then a max-pooling.
        v: Values near which z should stay.
        w: Values near which the output of the gate should be.
    """
    v_n = gate.windows(v)
    sorted_n = v_n.sort(dim=-1, descending=True).values
    largest_1, infinite_1 = sorted_n[..., :1], torch.full_like(sorted_n[..., :1], torch.inf)
    low_k = torch.cat([sorted_n[..., 1:], -infinite_1], dim=-1)
    high_k = torch.cat([infinite_1, sorted_n[..., 1:]], dim=-1)
    total_k, count_k = sorted_n.cumsum(dim=-1), torch.arange(1, v_n.shape[-1] + 1, device=v.device)
    sides = []
    for slope, lowest, highest in ((1.0, 0.0, torch.inf), (gate.slope, -torch.inf, 0.0)):
        t_k = (total_k + slope * w[..., None]) / (count_k + slope**2)
        t_k = torch.minimum(torch.maximum(t_k, low_k), high_k).clamp(lowest, highest)
        lowered_k = (sorted_n[..., None, :] - t_k[..., None]).clamp_min(0).square().sum(dim=-1)
        raised_k = (t_k - largest_1).clamp_min(0).square()
        cost_k = lowered_k + raised_k + (slope * t_k - w[..., None]).square()
        sides.append((t_k, cost_k))
    t, cost = (torch.cat(values, dim=-1) for values in zip(*sides, strict=True))
    t_1 = t.gather(-1, cost.argmin(dim=-1, keepdim=True))
    z_n = torch.minimum(v_n, t_1)
    raised_n = (t_1 > largest_1) & (
        torch.arange(v_n.shape[-1], device=v.device) == v_n.argmax(dim=-1, keepdim=True)
    )
    return gate.with_windows(v, torch.where(raised_n, t_1, z_n))


def lead(v_BN: Tensor, label_B: Tensor, margin: float) -> Tensor:
    """Return the nearest logits in which the label leads every other class by the margin.

    Args:
        v_BN: Logits.
        label_B: The classes that should lead.
        margin: Difference of the label's logit to the largest other one, 0 or more.
    """
    own_B1 = v_BN.gather(1, label_B[:, None])
    others = (v_BN + margin).scatter(1, label_B[:, None], -torch.inf)
    sorted_k = others.sort(dim=1, descending=True).values[:, :-1]
    count_k = torch.arange(2, v_BN.shape[1] + 1, device=v_BN.device)
    t_k = (own_B1 + sorted_k.cumsum(dim=1)) / count_k
    before_k = torch.cat([own_B1, t_k[:, :-1]], dim=1)
    t_B1 = torch.where(sorted_k > before_k, t_k, -torch.inf).amax(dim=1, keepdim=True)
    t_B1 = torch.maximum(t_B1, own_B1)
    return torch.minimum(v_BN, t_B1 - margin).scatter(1, label_B[:, None], t_B1)
