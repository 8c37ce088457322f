"""Radiographs as they might have been taken: a little turned, closer, softer, darker, grainier.

What is done to a radiograph is drawn first, from the trainer's seed, and then carried out; so an epoch can be
repeated exactly, on any number of threads. All of it works on `uint8[S, S]` as prepared for the model, and the
result is such a picture again: what trains and what scores passes the same normalisation.

It has to be cheap, because the small models that train on a CPU look at several hundred radiographs per second.
So the geometry is one torchvision transform on a Pillow image, all changes of grey are one table of 256 levels,
and the grain is cut from a sheet drawn once.
"""

# S side of a radiograph, pixels

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from mxbatch.trainer.training import Augment

_GRAIN_SIDE = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What happens to one radiograph."""

    angle_deg: float
    shear_deg: tuple[float, float]
    scale: float
    translate: tuple[float, float]
    """Right and down, shares of the side."""
    blur: float
    """Standard deviation, pixels."""
    noise: float
    """Standard deviation, 1 being the whole range of grey."""
    gain: float
    gamma: float
    mirrored: bool
    grain: tuple[int, int]
    """Where on the sheet the grain is cut."""


def draw_change(limits: Augment, rng: np.random.Generator) -> Change:
    """One draw within `limits`. Every draw takes the same number of random numbers, whatever the limits."""

    def either_side(limit: float) -> float:
        return float(rng.uniform(-limit, limit))

    return Change(
        angle_deg=either_side(limits.rotation_deg),
        shear_deg=(either_side(limits.shear_deg), either_side(limits.shear_deg)),
        scale=1 + either_side(limits.scale),
        translate=(either_side(limits.translate), either_side(limits.translate)),
        blur=float(rng.uniform(0, limits.blur)),
        noise=float(rng.uniform(0, limits.noise)),
        gain=1 + either_side(limits.exposure),
        gamma=float(np.exp(either_side(limits.exposure))),
        mirrored=bool(rng.random() < limits.mirror),
        grain=(int(rng.integers(_GRAIN_SIDE)), int(rng.integers(_GRAIN_SIDE))),
    )


def apply(change: Change, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`uint8[S, S]`: the changed radiograph. What comes in from outside the picture is black, as padding is."""
    side = picture.shape[0]
    image = Image.fromarray(picture)
    if change.mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if change.angle_deg or change.scale != 1 or any(change.shear_deg) or any(change.translate):
        image = transforms.affine(
            image,
            angle=change.angle_deg,
            translate=[share * side for share in change.translate],
            scale=change.scale,
            shear=list(change.shear_deg),
            interpolation=InterpolationMode.BILINEAR,
            fill=0,
        )
    if change.blur:
        image = image.filter(ImageFilter.GaussianBlur(change.blur))
    changed = grey_table(change)[np.asarray(image)]
    if change.noise:
        top, left = change.grain
        grain = _grain_sheet(side)[top : top + side, left : left + side]
        grainy = np.rint(changed + grain * np.float32(255 * change.noise))
        changed = np.clip(grainy, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(changed)


def grey_table(change: Change) -> NDArray[np.uint8]:
    """`uint8[256]`: what becomes of each grey level. Black stays black: padding is no part of the exposure."""
    grey = change.gain * np.linspace(0, 1, 256) ** change.gamma
    table: NDArray[np.uint8] = np.rint(255 * np.clip(grey, 0, 1)).astype(np.uint8)
    return table


@cache
def _grain_sheet(side: int) -> NDArray[np.float32]:
    """Standard normal grain, large enough to cut a picture of `side` at any place."""
    rng = np.random.default_rng(0)
    reach = _GRAIN_SIDE + side
    return rng.standard_normal((reach, reach), dtype=np.float32)
