"""Draw inputs in [0, 1] as pictures: images, signals and tables.

Images with 1 or 3 channels are drawn unchanged. For images with another number of channels, the
first eight channels are drawn as grey tiles, side by side. A signal is drawn as a line plot with
one colour per channel. A table is drawn as a bar chart with one bar per feature; the bars start at
the middle of the range.

Shape suffixes: n inputs, C channels, H height, W width, L length, F features, P points.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_TILES = 8
HEIGHT, WIDEST = 64, 256
"""Pixels of the picture of a signal: its height, and its largest width."""
BAR = 4
"""Pixels per feature of a table; 1 if there are more than 64 features."""
MARGIN = 6
"""White columns on each side of a signal or table, so that neighbours in a grid stay apart."""
COLOURS = ((0.0, 0.0, 0.0), (0.0, 0.45, 0.7), (0.84, 0.37, 0.0), (0.0, 0.62, 0.45))
"""Colours of the channels of a signal, repeated if needed: black and three of Okabe and Ito."""


def as_pictures(x_n: Tensor) -> Tensor:
    """Return pictures [n, 1 or 3, H, W] of inputs [n, C, H, W], [n, C, L] or [n, F] in [0, 1]."""
    if x_n.dim() < 4:
        picture = _bars(x_n) if x_n.dim() == 2 else _lines(x_n)
        return F.pad(picture, (MARGIN, MARGIN), value=1.0)
    return x_n if x_n.shape[1] in (1, 3) else _tiles(x_n)


def _tiles(x_nCHW: Tensor) -> Tensor:
    """Return grey pictures [n, 1, H, C (W + 1) - 1]; a white column separates two channels."""
    apart_nCHW = F.pad(x_nCHW[:, :MOST_TILES], (0, 1), value=1.0)
    return torch.cat(list(apart_nCHW.unbind(dim=1)), dim=2)[:, None, :, :-1]


def _lines(x_nCL: Tensor) -> Tensor:
    """Return white pictures [n, 3, 64, P] with a line per channel; 1 is at the top."""
    if x_nCL.shape[2] > WIDEST:
        x_nCL = F.adaptive_avg_pool1d(x_nCL, WIDEST)
    row_nCP = ((1 - x_nCL.clamp(0, 1)) * (HEIGHT - 1)).round()
    next_nCP = torch.cat([row_nCP[:, :, 1:], row_nCP[:, :, -1:]], dim=2)
    rows_H1 = torch.arange(HEIGHT, device=x_nCL.device)[:, None]
    low, high = torch.minimum(row_nCP, next_nCP), torch.maximum(row_nCP, next_nCP)
    pictures_n3HP = x_nCL.new_ones(len(x_nCL), 3, HEIGHT, x_nCL.shape[2])
    for channel in range(x_nCL.shape[1]):
        colour_311 = x_nCL.new_tensor(COLOURS[channel % len(COLOURS)]).view(3, 1, 1)
        on_n1HP = ((rows_H1 >= low[:, channel, None]) & (rows_H1 <= high[:, channel, None]))[
            :, None
        ]
        pictures_n3HP = torch.where(on_n1HP, colour_311, pictures_n3HP)
    return pictures_n3HP


def _bars(x_nF: Tensor) -> Tensor:
    """Return grey pictures [n, 1, 64, P] with a black bar per feature."""
    bar = BAR if x_nF.shape[1] <= HEIGHT else 1
    row_nF = ((1 - x_nF.clamp(0, 1)) * (HEIGHT - 1)).round()
    middle = (HEIGHT - 1) / 2
    rows_H1 = torch.arange(HEIGHT, device=x_nF.device)[:, None]
    low, high = row_nF.clamp(max=middle)[:, None], row_nF.clamp(min=middle)[:, None]
    off_nHF = ~((rows_H1 >= low) & (rows_H1 <= high))
    wide_nHFb = off_nHF[:, :, :, None].repeat(1, 1, 1, bar)
    wide_nHFb[..., bar // 2 + 1 :] = True  # a gap between two bars
    return wide_nHFb.flatten(2)[:, None].to(x_nF)
