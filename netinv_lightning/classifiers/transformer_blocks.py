"""Blocks of the vision transformer that the project trains.

Shape suffixes: B batch, T tokens, D width of a token, A attention heads, d width of a head.
"""

from __future__ import annotations

from torch import Tensor, nn


class Attention(nn.Module):
    """Self-attention without fused kernels, which have no second derivative."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, t_BTD: Tensor) -> Tensor:
        B, T, D = t_BTD.shape
        q_BATd, k_BATd, v_BATd = (
            self.to_qkv(t_BTD).view(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        )
        weights_BATT = (q_BATd @ k_BATd.transpose(-1, -2) * (D // self.heads) ** -0.5).softmax(
            dim=-1
        )
        return self.out((weights_BATT @ v_BATd).transpose(1, 2).reshape(B, T, D))


class TransformerBlock(nn.Module):
    def __init__(self, dim: int, heads: int, expansion: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.LayerNorm(dim), Attention(dim, heads), nn.Dropout(dropout)
        )
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, expansion * dim),
            nn.GELU(),
            nn.Linear(expansion * dim, dim),
            nn.Dropout(dropout),
        )

    def forward(self, t_BTD: Tensor) -> Tensor:
        t_BTD = t_BTD + self.attention(t_BTD)
        return t_BTD + self.mlp(t_BTD)
