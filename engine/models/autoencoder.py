"""A convolutional autoencoder whose encoder is a backbone.

It needs no labels to train and no pretrained weights, which suits archives that hold many more radiographs
than annotations. The decoder is part of the model so that reconstruction can stay a training loss; scoring
never runs it.
"""

# B radiographs · S side · s side of the code map · D features (latent channels)

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class ConvolutionalAutoencoder(nn.Module):
    """Stride-2 steps, one per entry of `widths`, a code map of `latent` channels, and the mirror image."""

    def __init__(self, *, widths: Sequence[int] = (32, 64, 128, 256, 256), latent: int = 256) -> None:
        super().__init__()
        self.feature_dim = latent
        ins = (1, *widths[:-1])
        self.encoder = nn.Sequential(
            *(_down(a, b) for a, b in zip(ins, widths, strict=True)), nn.Conv2d(widths[-1], latent, 1)
        )
        outs = (*reversed(widths[:-1]), widths[0])
        self.decoder = nn.Sequential(
            nn.Conv2d(latent, widths[-1], 1),
            *(_up(a, b) for a, b in zip(reversed(widths), outs, strict=True)),
            nn.Conv2d(widths[0], 1, 3, padding=1),
        )

    def forward(self, image_B1SS: Tensor) -> Tensor:
        """`float32[B, D]`: the code, averaged over the picture."""
        code_BDss: Tensor = self.encoder(image_B1SS)
        return code_BDss.mean((2, 3))

    def reconstruct(self, image_B1SS: Tensor) -> Tensor:
        """`float32[B, 1, S, S]`: the picture as the code remembers it, in the encoder's normalised grey."""
        out: Tensor = self.decoder(self.encoder(image_B1SS))
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


def _norm(channels: int) -> nn.GroupNorm:
    """One group: statistics of the picture alone, never of the batch it happens to travel in."""
    return nn.GroupNorm(1, channels)
