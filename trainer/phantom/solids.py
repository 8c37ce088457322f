"""The two shapes that a phantom is made of, and the collector that a skeleton is poured into.

Everything is a tapered rod with round ends or an ellipsoid, because the length that a ray spends in either has a
closed form (project.py), so no picture is ever sampled in three dimensions. Hollow things are an outer solid and an
inner one of negative density; a curved bone is a chain of rods of which each but the first leaves out the ball it
shares with the one before, so that joints do not shine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.float64]
"""`[N, 3]` in mm: x to the animal's right, y cranial, z dorsal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Solids:
    """N rods and M ellipsoids as a structure of arrays; densities are attenuation per mm, negative for cavities."""

    start: Points
    end: Points
    start_radius: NDArray[np.float64]
    end_radius: NDArray[np.float64]
    density: NDArray[np.float64]
    joined: NDArray[np.float64]
    """`[N]` 1 where the rod leaves out the ball at its start, because the rod before it has it; else 0."""
    centre: Points
    axes: NDArray[np.float64]
    """`[M, 3, 3]`: the rows are the three semi-axes."""
    ellipsoid_density: NDArray[np.float64]

    def bounds(self) -> tuple[Points, Points]:
        """Lowest and highest corner of a box around everything, each `[3]`."""
        reach = np.sqrt((self.axes**2).sum(axis=1))
        thick, thin = self.start_radius[:, None], self.end_radius[:, None]
        low = [self.start - thick, self.end - thin, self.centre - reach]
        high = [self.start + thick, self.end + thin, self.centre + reach]
        return np.concatenate(low).min(axis=0), np.concatenate(high).max(axis=0)


# Attenuation per mm at some 25 kV, after NIST's tables of mass attenuation at 20 keV. Bone, teeth and gas lie inside
# soft tissue, so theirs is what they add to it.
SOFT = 0.075
FAT = 0.055
BONE = 0.75
TOOTH = 1.2
MARROW = 0.08
CARTILAGE = 0.06
GAS = -SOFT


class Cast:
    """Collects solids and sets them once into a `Solids`."""

    def __init__(self) -> None:
        self._rods: list[NDArray[np.float64]] = []
        self._ellipsoids: list[NDArray[np.float64]] = []

    def rods(
        self,
        start: ArrayLike,
        end: ArrayLike,
        radius: ArrayLike,
        density: ArrayLike,
        *,
        end_radius: ArrayLike | None = None,
        joined: ArrayLike = 0.0,
    ) -> None:
        """Rods from `start` to `end`, `[3]` or `[N, 3]`; the other arguments are numbers or `[N]`."""
        first = np.asarray(start, dtype=np.float64)
        rows = np.empty((len(first) if first.ndim == 2 else 1, 10))  # start, end, two radii, density, joined
        rows[:, 0:3], rows[:, 3:6], rows[:, 6] = first, end, radius
        rows[:, 7] = radius if end_radius is None else end_radius
        rows[:, 8], rows[:, 9] = density, joined
        self._rods.append(rows)

    def tubes(
        self,
        start: ArrayLike,
        end: ArrayLike,
        radius: ArrayLike,
        density: ArrayLike,
        *,
        wall: float,
        marrow: float,
        end_radius: ArrayLike | None = None,
        joined: ArrayLike = 0.0,
    ) -> None:
        """Rods with a cavity: `wall` mm of `density` around `marrow`. Rods too thin for a cavity are solid."""
        tail = radius if end_radius is None else end_radius
        inner = [np.maximum(np.asarray(r, dtype=np.float64) - wall, 0.0) for r in (radius, tail)]
        self.rods(start, end, radius, density, end_radius=tail, joined=joined)
        self.rods(
            start,
            end,
            inner[0],
            marrow - np.asarray(density, dtype=np.float64),
            end_radius=inner[1],
            joined=joined,
        )

    def chain(
        self,
        points: ArrayLike,
        radius: ArrayLike,
        density: ArrayLike,
        *,
        wall: float | None = None,
        marrow: float = 0.0,
    ) -> None:
        """A curved bone through `points` `[K, 3]`, hollow when it has a `wall`.

        `radius` is a number or `[K]`, `density` a number or, of a solid chain, `[K - 1]`.
        """
        path = np.asarray(points, dtype=np.float64)
        radii = np.full(len(path), radius, dtype=np.float64)
        joined = np.ones(len(path) - 1)
        joined[0] = 0.0
        if wall is None:
            self.rods(path[:-1], path[1:], radii[:-1], density, end_radius=radii[1:], joined=joined)
        else:
            self.tubes(
                path[:-1],
                path[1:],
                radii[:-1],
                density,
                wall=wall,
                marrow=marrow,
                end_radius=radii[1:],
                joined=joined,
            )

    def ellipsoids(
        self, centre: ArrayLike, semi_axes: ArrayLike, density: ArrayLike, frame: ArrayLike | None = None
    ) -> None:
        """Ellipsoids at `centre` `[3]` or `[M, 3]` with `semi_axes` in mm along the rows of `frame`."""
        turn = np.eye(3) if frame is None else np.asarray(frame, dtype=np.float64)
        self.sheared(centre, turn * np.asarray(semi_axes, dtype=np.float64)[..., :, None], density)

    def sheared(self, centre: ArrayLike, axes: ArrayLike, density: ArrayLike) -> None:
        """The same with three semi-axes `[3, 3]` or `[M, 3, 3]` that need not be square to each other."""
        middle = np.asarray(centre, dtype=np.float64)
        rows = np.empty((len(middle) if middle.ndim == 2 else 1, 13))  # centre, axes, density
        rows[:, 0:3], rows[:, 12] = middle, density
        rows[:, 3:12].reshape(-1, 3, 3)[:] = axes
        self._ellipsoids.append(rows)

    def shells(
        self,
        centre: ArrayLike,
        semi_axes: ArrayLike,
        density: float,
        *,
        wall: float,
        inside: float,
        frame: ArrayLike | None = None,
    ) -> None:
        """Ellipsoids of `inside` with a wall of `wall` mm of `density`."""
        lengths = np.asarray(semi_axes, dtype=np.float64)
        self.ellipsoids(centre, lengths, density, frame)
        self.ellipsoids(centre, np.maximum(lengths - wall, 1e-3), inside - density, frame)

    def set(self) -> Solids:
        """Everything collected so far."""
        rods = np.concatenate([np.empty((0, 10)), *self._rods])
        ellipsoids = np.concatenate([np.empty((0, 13)), *self._ellipsoids])
        return Solids(
            start=rods[:, 0:3],
            end=rods[:, 3:6],
            start_radius=rods[:, 6],
            end_radius=rods[:, 7],
            density=rods[:, 8],
            joined=rods[:, 9],
            centre=ellipsoids[:, 0:3],
            axes=ellipsoids[:, 3:12].reshape(-1, 3, 3),
            ellipsoid_density=ellipsoids[:, 12],
        )


def smooth(points: ArrayLike, count: int) -> NDArray[np.float64]:
    """`count` points on the curve through `points` `[K, 3]` (Catmull and Rom's), ends included."""
    path = np.asarray(points, dtype=np.float64)
    framed = np.concatenate([[2 * path[0] - path[1]], path, [2 * path[-1] - path[-2]]])
    where = np.linspace(0.0, len(path) - 1.0, count)
    first = np.minimum(where.astype(np.int64), len(path) - 2)
    t = (where - first)[:, None]
    a, b, c, d = (framed[first + i] for i in range(4))
    curve: NDArray[np.float64] = b + 0.5 * t * (
        c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a))
    )
    return curve


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """A place and a direction: local points (right, cranial, dorsal) become the mouse's."""

    origin: NDArray[np.float64]
    axes: NDArray[np.float64]
    """`[3, 3]`: rows right, cranial, dorsal."""

    def at(self, points: ArrayLike) -> NDArray[np.float64]:
        """Local points `[3]` or `[N, 3]` in the mouse's frame."""
        moved: NDArray[np.float64] = self.origin + np.asarray(points, dtype=np.float64) @ self.axes
        return moved
