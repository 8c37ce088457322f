"""Drawn radiographs: just enough bone on a dark field to look at, to feed every decoder and to try a model on.

They carry no anatomy to learn from.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def draw_radiograph(view: str, *, seed: int, height: int = 512, width: int = 448) -> NDArray[np.uint16]:
    """A bright skeleton-like figure on a dark field, `uint16[height, width]` using 12 bits."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    angle = rng.normal(0, 0.15) + (0.4 if view in ("lv", "skull_lv") else 0.0)
    u, v = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    body = np.exp(-((u / 0.45) ** 4 + (v / 0.8) ** 4))
    bend = rng.normal(0, 0.08)
    spine = (
        np.exp(-(((u - bend * np.cos(3 * v)) / 0.035) ** 2))
        * (0.75 + 0.25 * np.cos(70 * v))
        * (np.abs(v) < 0.7)
    )
    ribs = np.exp(-((np.abs(u) - 0.2) ** 2) / 0.012) * np.clip(np.cos(45 * (v + 0.3 * np.abs(u))), 0, 1)
    ribs = ribs * ((v > -0.35) & (v < 0.1))
    skull = np.exp(-((u / 0.2) ** 2 + ((v + 0.7) / 0.18) ** 2) * 2)
    picture = 0.18 * body + 0.5 * spine + 0.3 * ribs + 0.45 * skull + 0.05
    if view in ("forepaw", "hind_leg"):
        picture = 0.1 * body + sum(
            0.5 * np.exp(-(((u - 0.18 * k * (v + 0.6)) / 0.03) ** 2)) * (np.abs(v) < 0.6)
            for k in range(-2, 3)
        )
    noisy: NDArray[np.float64] = picture + rng.normal(0, 0.01, picture.shape)
    drawn: NDArray[np.uint16] = np.clip(noisy * 3600, 0, 4095).astype(np.uint16)
    return drawn
