"""A convolutional autoencoder whose encoder is a backbone.

It needs no labels to train and no pretrained weights, which suits archives that hold many more radiographs
than annotations. The decoder is part of the model so that reconstruction can stay a training loss; scoring
never runs it.
"""

# B radiographs · S side · s side of the code map · C latent channels · D features

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from mxbatch.engine.models.pooling import Pooling

_STRIDE = 4
"""Of the first step."""


class ConvolutionalAutoencoder(nn.Module):
    """Steps down, one per entry of `widths`, a code map of `latent` channels, and the way back.

    The first step is one convolution to a quarter of the side; each one after it halves the side, a residual block
    of two. Two steps of stride 2 instead of the first took half as long again in training.

    `pool` and `grid` say how the map becomes the picture's features (pooling.py). The way back is half as wide and
    ends as the way down begins, with one shuffle of channels into pixels: convolutions at full size would make
    drawing six times as slow as seeing, and it is seeing that is to be learned.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int] = (64, 128, 256, 256),
        latent: int = 256,
        pool: str = "mean",
        grid: int = 8,
    ) -> None:
        super().__init__()
        self.pooling = Pooling(latent, pool, grid=grid)
        self.feature_dim = self.pooling.feature_dim
        self.encoder = nn.Sequential(
            _first(widths[0]),
            *(ResidualStep(a, b) for a, b in pairwise(widths)),
            nn.Conv2d(widths[-1], latent, 1),
        )
        back = [max(1, width // 2) for width in reversed(widths)]
        self.decoder = nn.Sequential(
            nn.Conv2d(latent, back[0], 1),
            *(_up(a, b) for a, b in pairwise(back)),
            nn.Conv2d(back[-1], _STRIDE**2, 3, padding=1),
            nn.PixelShuffle(_STRIDE),
        )

    def forward(self, image_B1SS: Tensor) -> Tensor:
        """`float32[B, D]`: what the recipe's pooling keeps of the code map."""
        features_BD: Tensor = self.pooling(self.encoder(image_B1SS))
        return features_BD

    def ends(self) -> list[nn.Module]:
        """What reads the picture or its first map, and what makes the last map and the features of it.

        Rounded to bfloat16, each of these convolutions moves probabilities more than most of the others do.
        """
        first, *steps, last = self.encoder.children()
        readers = [m for step in steps[:1] if isinstance(step, ResidualStep) for m in step.readers()]
        return [*first.children(), *readers, last, *self.pooling.modules()]

    def units(self) -> list[nn.Module]:
        """What computes in few digits where few are asked for: the other convolutions, with float32 between them."""
        ends = self.ends()
        return [m for m in self.encoder.modules() if isinstance(m, nn.Conv2d) and m not in ends]

    def reconstruct(self, image_B1SS: Tensor) -> Tensor:
        """`float32[B, 1, S, S]`: the picture as the code remembers it, in the encoder's normalised grey."""
        out: Tensor = self.decoder(self.encoder(image_B1SS))
        if out.shape == image_B1SS.shape:
            return out
        return F.interpolate(out, size=image_B1SS.shape[-2:], mode="bilinear", align_corners=False)


class ResidualStep(nn.Module):
    """Half the side: what two convolutions find, added to the mean of each four pixels."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.found = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False),
            _norm(channels_out),
            nn.ReLU(),
            nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
            _norm(channels_out),
        )
        self.kept = nn.Sequential(
            nn.AvgPool2d(2, ceil_mode=True),
            nn.Conv2d(channels_in, channels_out, 1, bias=False),
            _norm(channels_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.found(x) + self.kept(x))

    def readers(self) -> list[nn.Module]:
        """The convolutions that see what comes in."""
        return [self.found[0], *self.kept]


def _first(channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, channels_out, 2 * _STRIDE, stride=_STRIDE, padding=_STRIDE // 2, bias=False),
        _norm(channels_out),
        nn.ReLU(),
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
