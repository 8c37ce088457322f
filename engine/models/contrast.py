"""Local contrast: each pixel measured against its surroundings, before any layer sees it.

A rib is a few grey levels brighter than the belly that it lies on, and the belly is a hundred brighter than the air.
A network that is to learn of the one from raw greys first has to unlearn the other. So the mean of the surroundings
is taken away, and what is left is given in units of their spread: Jarrett, Kavukcuoglu, Ranzato, LeCun, "What is the
best multi-stage architecture for object recognition?", ICCV 2009, section 2, which takes a bell for the surroundings.
"""

# B radiographs · S side · c side of the grid of cells

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CELLS = 56
"""At least so many cells along a side that has the pixels; surroundings are three by three of them."""
_FAINTEST = 0.02
"""Spread, of greys from 0 to 1, below which nothing is amplified further: the noise of the open beam is."""


class LocalContrast(nn.Module):
    """`float32[B, 1, S, S]` -> the same shape: greys less the local mean, in units of the local spread.

    Mean and gain are those of three by three cells, and change smoothly from one cell to the next: much cheaper than
    a bell around every pixel.
    """

    def forward(self, grey_B1SS: Tensor) -> Tensor:
        cell = cell_side(grey_B1SS.shape[-1])
        moments_B2SS = torch.cat([grey_B1SS, grey_B1SS.square()], dim=1)
        moments_B2cc = F.avg_pool2d(F.avg_pool2d(moments_B2SS, cell), 3, 1, 1, count_include_pad=False)
        mean_B1cc, square_B1cc = moments_B2cc[:, :1], moments_B2cc[:, 1:]
        gain_B1cc = 1 / ((square_B1cc - mean_B1cc.square()).clamp_min(0).sqrt() + _FAINTEST)
        around_B2cc = torch.cat([gain_B1cc, -mean_B1cc * gain_B1cc], dim=1)
        around_B2SS = F.interpolate(around_B2cc, scale_factor=float(cell), mode="bilinear")
        return torch.addcmul(around_B2SS[:, 1:], grey_B1SS, around_B2SS[:, :1])


def cell_side(side: int) -> int:
    """Pixels along a cell: the most that divide `side` into `_CELLS` or more, so that no cell is cut."""
    return max(pixels for pixels in range(1, max(1, side // _CELLS) + 1) if side % pixels == 0)
