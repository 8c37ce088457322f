"""What else lies in the beam: a rod beside the animal, a lead letter, a plate that ends, a collimator's edge.

Each adds optical depth to a picture before it is exposed, in a place of its own choosing near the border.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Depth = NDArray[np.float32]
"""`float32[H, W]`, changed in place."""

_LETTERS = {
    "L": ("10000", "10000", "10000", "10000", "10000", "10000", "11111"),
    "R": ("11110", "10001", "10001", "11110", "10100", "10010", "10001"),
}
_METAL, _PLASTIC, _LEAD = 1.2, 0.06, 8.0
"""Optical depths: of a metal rod per mm, of a plate, of a collimator's blade."""
_ROD_MM = (1.2, 70.0)
"""Radius and length."""
_LETTER_MM = 6.0


def add_rod(depth: Depth, rng: np.random.Generator, pixels_per_mm: float) -> None:
    """A round metal rod, nearly along the longer side."""
    height, width = depth.shape
    radius, length = (mm * pixels_per_mm for mm in _ROD_MM)
    along = np.array([1.0, 0.0]) if width >= height else np.array([0.0, 1.0])
    slant = rng.normal(0, 0.1)
    direction = along * np.cos(slant) + along[::-1] * np.sin(slant)
    side = rng.choice([0.06, 0.94]) + rng.uniform(-0.03, 0.03)
    middle = rng.uniform(0.35, 0.65)
    place = np.array([middle, side] if width >= height else [side, middle]) * (width, height)
    x = np.arange(width, dtype=np.float32) + np.float32(0.5 - place[0])
    y = np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5 - place[1])
    lengthwise = x * np.float32(direction[0]) + y * np.float32(direction[1])
    across = y * np.float32(direction[0]) - x * np.float32(direction[1])
    chord = np.sqrt(np.maximum(np.float32(radius**2) - across**2, 0))
    chord *= np.abs(lengthwise) < length / 2
    chord *= np.float32(2 * _METAL / pixels_per_mm)
    depth += chord


def add_letter(depth: Depth, rng: np.random.Generator, pixels_per_mm: float) -> None:
    """A lead letter that tells left from right, in a corner."""
    rows = _LETTERS[str(rng.choice(list(_LETTERS)))]
    pixel = max(1, round(min(_LETTER_MM * pixels_per_mm, min(depth.shape) / 8) / len(rows)))
    letter = np.kron([[float(dot) for dot in row] for row in rows], np.ones((pixel, pixel)))
    room = np.array(depth.shape) - letter.shape
    if (room < 0).any():
        return
    top, left = np.round(room * rng.choice([0.04, 0.96], 2)).astype(int).tolist()
    depth[top : top + letter.shape[0], left : left + letter.shape[1]] += np.float32(_LEAD / 2) * letter


def add_plate_edge(depth: Depth, rng: np.random.Generator) -> None:
    """The table on which the animal lies ends within the picture."""
    _border(depth, rng, (0.03, 0.2))[...] += np.float32(_PLASTIC)


def add_collimator(depth: Depth, rng: np.random.Generator) -> None:
    """A blade that keeps the beam from one border: no light there."""
    _border(depth, rng, (0.01, 0.05))[...] += np.float32(_LEAD)


def _border(depth: Depth, rng: np.random.Generator, share: tuple[float, float]) -> Depth:
    """A strip along one of the four sides."""
    turned = np.rot90(depth, int(rng.integers(4)))
    return turned[: max(1, round(turned.shape[0] * rng.uniform(*share)))]
