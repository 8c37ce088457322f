"""From the last map of a backbone to the features of a picture.

A mean says how much of something there is, a peak whether it is anywhere. Where animals lie the same way in every
picture (`upright` in the input contract), it also means something *where* it is: a gap in the neck is a joint, the
same gap in the shoulder is a clavicle that is not there. So `places` keeps a narrow copy of the map itself.
"""

# B radiographs · C channels · s side of the map · g side of the grid of places · D features

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

POOLS = ("mean", "mean_peak", "places")
"""The recipe's words; each keeps what the one before it keeps, and more."""
PLACE_CHANNELS = 32
"""What is kept of each place: enough to tell findings apart, little enough that the head stays small."""


class Pooling(nn.Module):
    """`float32[B, C, s, s] -> float32[B, D]`. `grid` is g; s must be a multiple of it where places are kept.

    Raises ValueError for a pool that is none of `POOLS`.
    """

    def __init__(self, channels: int, pool: str, *, grid: int = 8) -> None:
        super().__init__()
        if pool not in POOLS:
            raise ValueError(f"pool {pool!r} is none of {', '.join(POOLS)}")
        if grid < 1:
            raise ValueError(f"grid is {grid}, 1 is the least")
        self.pool, self.grid = pool, grid
        kept = {"mean": 1, "mean_peak": 2, "places": 2}[pool]
        self.feature_dim = kept * channels
        self.narrow: nn.Module | None = None
        if pool == "places":
            self.narrow = nn.Sequential(
                nn.Conv2d(channels, PLACE_CHANNELS, 1, bias=False), nn.BatchNorm2d(PLACE_CHANNELS)
            )
            self.feature_dim += PLACE_CHANNELS * grid * grid

    def forward(self, map_BCss: Tensor) -> Tensor:
        features = [map_BCss.mean((2, 3))]
        if self.pool != "mean":
            features.append(map_BCss.amax((2, 3)))  # a fused rib is lost in a mean and found at the peak
        if self.narrow is not None:
            side = map_BCss.shape[-1]
            if side % self.grid:
                raise ValueError(
                    f"a map of {side} x {side} has no grid of {self.grid} x {self.grid} places: set `grid`"
                )
            places = F.avg_pool2d(self.narrow(map_BCss), side // self.grid)
            features.append(places.flatten(1))
        return torch.cat(features, dim=1)
