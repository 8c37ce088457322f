"""Solids into pixels: how much every ray meets, by closed forms.

A pixel's depth is the sum, over all solids, of density times the length that its ray spends inside (the exponent of
Beer and Lambert). Each solid is worked out in its own box of pixels; boxes of like size are taken together, so that
numpy sees few and large arrays that still fit the cache. A solid thinner than a pixel is drawn wider and fainter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from mxbatch.trainer.phantom.solids import Solids

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Int = NDArray[np.int64]

_THINNEST_PX = 0.6
"""Radius below which a solid is drawn wider, with its mass kept: thinner ones would fall between the samples."""
_CHUNK_PX = 1 << 15
_STEPS = np.unique(np.round(6 * 1.3 ** np.arange(36)).astype(np.int64))
"""Sides that a box of pixels can have."""


def draw(depth_HW: F32, solids: Solids, camera: F64, centre_mm: F64, pixels_per_mm: float) -> None:
    """Add the depth of `solids` to `depth_HW`, seen through the rows of `camera` (right, up, to the viewer)."""
    to_pixels = camera * np.array([[1.0], [-1.0], [1.0]]) * pixels_per_mm
    offset = np.array([depth_HW.shape[1] / 2.0, depth_HW.shape[0] / 2.0, 0.0])
    _draw_ellipsoids(
        depth_HW, solids, to_pixels, (solids.centre - centre_mm) @ to_pixels.T + offset, pixels_per_mm
    )
    ends = [(points - centre_mm) @ to_pixels.T + offset for points in (solids.start, solids.end)]
    _draw_rods(depth_HW, solids, ends[0], ends[1], pixels_per_mm)


def _draw_rods(depth_HW: F32, solids: Solids, start: F64, end: F64, pixels_per_mm: float) -> None:
    radius = np.stack([solids.start_radius, solids.end_radius], axis=1) * pixels_per_mm
    thin = radius.mean(axis=1, keepdims=True) < _THINNEST_PX
    drawn = np.where(thin, _THINNEST_PX, radius)
    step = end - start
    length = np.linalg.norm(step, axis=1)
    lost = _volume(length, radius, solids.joined) / _volume(length, drawn, solids.joined)
    low = np.minimum(start[:, :2] - drawn[:, :1], end[:, :2] - drawn[:, 1:])
    high = np.maximum(start[:, :2] + drawn[:, :1], end[:, :2] + drawn[:, 1:])
    grow = drawn[:, 1] - drawn[:, 0]
    square = step[:, 0] ** 2 + step[:, 1] ** 2 - grow**2
    square = np.where(np.abs(square) < 1e-4, 1e-4, square)
    rise = np.abs(step[:, 2])
    lean = rise / np.sqrt(np.maximum(square + rise**2, 1e-4))
    weight = solids.density * lost / pixels_per_mm
    columns = (*start.T[:2], *step.T[:2], drawn[:, 0], grow, square, lean, rise, weight, solids.joined)
    table = np.stack(columns, axis=1).astype(np.float32)
    # Seen so steeply that one end's disc covers the other's, a cone needs more care.
    steep = square < 0.1 * grow**2
    kinds: tuple[tuple[Callable[..., F32], Int], ...] = (
        (_rod_lengths, np.flatnonzero(~steep)),
        (_steep_rod_lengths, np.flatnonzero(steep)),
    )
    for lengths, members in kinds:
        for rows, columns_, index, top, left in _boxes(depth_HW.shape, low[members], high[members]):
            x0, y0, dx, dy, r0, dr, a, k, dz, w, j = table[members[index]].T[:, :, None, None]
            x, y = columns_ - x0, rows - y0
            # Along the axis at share t the ball has its centre at start + t * step and the radius r0 + t * dr; a ray
            # meets it where q(t) = c + 2 b t - a t^2 >= 0.
            b = (r0 * dr + x * dx) + y * dy
            c = (r0 * r0 - x * x) - y * y
            through = lengths(a, b, c, k, dz)
            if j.any():  # leave out the ball at the start
                through -= 2.0 * j * np.sqrt(np.maximum(c, 0.0))
            through *= w
            _add(depth_HW, through, top, left)


def _rod_lengths(a: F32, b: F32, c: F32, k: F32, dz: F32) -> F32:
    """Length of each ray inside: it enters and leaves on the balls that maximise sqrt(q) -+ t * dz."""
    s = b * b
    s += a * c
    np.maximum(s, 0.0, out=s)
    np.sqrt(s, out=s)
    s *= k
    far, near = b + s, b - s
    through = np.zeros_like(b)
    twice = 2.0 * b
    for t, sign in ((far, dz), (near, -dz)):
        t /= a
        np.clip(t, 0.0, 1.0, out=t)
        np.multiply(t, a, out=s)
        np.subtract(twice, s, out=s)
        s *= t
        s += c
        np.maximum(s, 0.0, out=s)
        np.sqrt(s, out=s)
        through += s
        t *= sign
        through += t
    return through


def _steep_rod_lengths(a: F32, b: F32, c: F32, k: F32, dz: F32) -> F32:
    """The same where q may open upwards: the best of both ends and the stationary ball, where the ray meets them."""
    s = k * np.sqrt(np.maximum(b * b + a * c, 0.0))
    through = np.zeros_like(b)
    for sign in (1.0, -1.0):
        best = np.full_like(b, -np.inf)
        for t in (np.zeros_like(b), np.ones_like(b), np.clip((b + sign * s) / a, 0.0, 1.0)):
            q = c + t * (2.0 * b - a * t)
            reach = np.sqrt(np.maximum(q, 0.0)) + sign * dz * t
            np.maximum(best, np.where(q > 0.0, reach, -np.inf), out=best)
        through += best
    return np.where(np.isfinite(through), through, np.float32(0.0))


def _volume(length: F64, radius: F64, joined: F64) -> F64:
    """Volume over pi of rods of `length` `[N]` and radii `[N, 2]`, less the ball that a joined one leaves out."""
    first, last = radius.T
    cone = length * (first**2 + first * last + last**2) / 3.0
    volume: F64 = np.maximum(cone + 2.0 / 3.0 * (first**3 + last**3) - 4.0 / 3.0 * joined * first**3, 1e-9)
    return volume


def _draw_ellipsoids(
    depth_HW: F32, solids: Solids, to_pixels: F64, centre: F64, pixels_per_mm: float
) -> None:
    axes = solids.axes @ to_pixels.T
    xx, xy, yy = ((axes[:, :, i] * axes[:, :, j]).sum(axis=1) for i, j in ((0, 0), (0, 1), (1, 1)))
    xx, yy = (
        xx + _THINNEST_PX**2 / 2.0,
        yy + _THINNEST_PX**2 / 2.0,
    )  # widens what is thin, and hardly the rest
    square = xx * yy - xy**2
    weight = 2.0 * np.abs(np.linalg.det(axes)) / np.sqrt(square) * solids.ellipsoid_density / pixels_per_mm
    columns = (*centre.T[:2], yy / square, -2.0 * xy / square, xx / square, weight)
    table = np.stack(columns, axis=1).astype(np.float32)
    reach = np.sqrt(np.stack([xx, yy], axis=1))
    for rows, columns_, index, top, left in _boxes(
        depth_HW.shape, centre[:, :2] - reach, centre[:, :2] + reach
    ):
        x0, y0, p, q, r, w = table[index].T[:, :, None, None]
        x, y = columns_ - x0, rows - y0
        inside = x * q * y
        inside += p * x * x
        inside += r * y * y
        np.subtract(1.0, inside, out=inside)
        np.maximum(inside, 0.0, out=inside)
        np.sqrt(inside, out=inside)
        inside *= w
        _add(depth_HW, inside, top, left)


def _boxes(shape: tuple[int, ...], low: F64, high: F64) -> Iterator[tuple[F32, F32, Int, Int, Int]]:
    """Groups of solids whose boxes have one size: y `[n, h, 1]` and x `[n, 1, w]` of its pixels, which, and where.

    A box may be larger than its solid, as the length of a ray outside a solid is zero anyway; so sizes are rounded
    up to a few steps, and boxes at the border are moved inwards rather than cut.
    """
    limit = np.array(shape[::-1])
    first = np.clip(np.floor(low).astype(np.int64), 0, limit)
    last = np.clip(np.ceil(high).astype(np.int64), 0, limit)
    seen = np.flatnonzero((last > first).all(axis=1))
    size = np.minimum(_STEPS[np.searchsorted(_STEPS, (last - first)[seen])], limit)
    corner = np.minimum(first[seen], limit - size)
    sizes, group = np.unique(size, axis=0, return_inverse=True)
    for number, (width, height) in enumerate(sizes.tolist()):
        members = np.flatnonzero(group.ravel() == number)
        count = max(1, _CHUNK_PX // (width * height))
        for begin in range(0, len(members), count):
            part = members[begin : begin + count]
            left, top = corner[part].T
            rows = (top[:, None] + (np.arange(height) + 0.5)).astype(np.float32)[:, :, None]
            columns = (left[:, None] + (np.arange(width) + 0.5)).astype(np.float32)[:, None, :]
            yield rows, columns, seen[part], top, left


def _add(depth_HW: F32, patches: F32, top: Int, left: Int) -> None:
    height, width = patches.shape[1:]
    for patch, y, x in zip(patches, top.tolist(), left.tolist(), strict=True):
        depth_HW[y : y + height, x : x + width] += patch
