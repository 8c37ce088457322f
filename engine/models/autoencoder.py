"""A convolutional autoencoder whose encoder is a backbone.

It needs no labels to train and no pretrained weights, which suits archives that hold many more radiographs
than annotations. The decoder is part of the model so that reconstruction can stay a training loss; scoring
never runs it.
"""

# B radiographs · S side · s side of the code map · C latent channels · D features

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Pool = Callable[[Tensor], Tensor]


def _mean(code_BCss: Tensor) -> Tensor:
    return code_BCss.mean((2, 3))


def _peak(code_BCss: Tensor) -> Tensor:
    return code_BCss.amax((2, 3))


POOLS: dict[str, tuple[Pool, ...]] = {"mean": (_mean,), "mean_peak": (_mean, _peak)}
"""The recipe's word -> what is kept of each latent channel: a fused rib is lost in a mean and found at the peak."""


class ConvolutionalAutoencoder(nn.Module):
    """Stride-2 steps, one per entry of `widths`, a code map of `latent` channels, and the way back.

    `pool` is a key of `POOLS`: how the map becomes the picture's features. The way back is half as wide, and its
    last two doublings are one shuffle of channels into pixels: convolutions at full size would make drawing six
    times as slow as seeing, and it is seeing that is to be learned.
    """

    def __init__(
        self, *, widths: Sequence[int] = (32, 64, 128, 256, 256), latent: int = 256, pool: str = "mean"
    ) -> None:
        super().__init__()
        if pool not in POOLS:
            raise ValueError(f"pool {pool!r} is none of {', '.join(POOLS)}")
        self.pools = POOLS[pool]
        self.feature_dim = latent * len(self.pools)
        ins = (1, *widths[:-1])
        self.encoder = nn.Sequential(
            *(_down(a, b) for a, b in zip(ins, widths, strict=True)), nn.Conv2d(widths[-1], latent, 1)
        )
        shuffled = min(2, len(widths))
        back = [max(1, width // 2) for width in reversed(widths)][: len(widths) - shuffled + 1]
        self.decoder = nn.Sequential(
            nn.Conv2d(latent, back[0], 1),
            *(_up(a, b) for a, b in pairwise(back)),
            nn.Conv2d(back[-1], 4**shuffled, 3, padding=1),
            nn.PixelShuffle(2**shuffled),
        )

    def forward(self, image_B1SS: Tensor) -> Tensor:
        """`float32[B, D]`: what is left of the code map when places are forgotten."""
        code_BCss: Tensor = self.encoder(image_B1SS)
        return torch.cat([pool(code_BCss) for pool in self.pools], dim=1)

    def reconstruct(self, image_B1SS: Tensor) -> Tensor:
        """`float32[B, 1, S, S]`: the picture as the code remembers it, in the encoder's normalised grey."""
        out: Tensor = self.decoder(self.encoder(image_B1SS))
        if out.shape == image_B1SS.shape:
            return out
        return F.interpolate(out, size=image_B1SS.shape[-2:], mode="bilinear", align_corners=False)


def _down(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1), _norm(channels_out), nn.GELU()
    )


def _up(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.Conv2d(channels_in, channels_out, 3, padding=1),
        _norm(channels_out),
        nn.GELU(),
    )


def _norm(channels: int) -> nn.BatchNorm2d:
    """Statistics of the training data, constants when scoring: a picture never depends on its neighbours there.

    Statistics of the picture itself (group norm) were tried: marks planted in phantom radiographs, which this finds
    within 20 epochs, stayed unfound.
    """
    return nn.BatchNorm2d(channels)
