"""From a mouse to the optical depth of a parallel projection: what film.py makes a radiograph of.

A view is a posture of the animal and a direction to look from; everything else (what shows, what hides what) is
geometry. The pixels themselves are raster.py's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.archive.views import VIEWS
from mxbatch.engine.errors import UsageError
from mxbatch.trainer.phantom.mouse import Mouse, Posture
from mxbatch.trainer.phantom.raster import draw

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

# Rows: what points to the right of the picture, what points up, and what points to the viewer.
_PRONE = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
_SIDE = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
_LATERAL = ("lv", "skull_lv")

# What must be in the picture: landmarks, and by how many mm the picture reaches beyond them.
_SHOWN: dict[str, tuple[tuple[str, ...], float]] = {
    "skull_dv": (("nose", "nape", "left_cheek", "right_cheek"), 2.0),
    "skull_lv": (("nose", "nape", "chin", "crown"), 2.0),
    "forepaw": (("right_shoulder", "right_elbow", "right_wrist", "right_fingertip"), 2.5),
    "hind_leg": (("right_hip", "right_knee", "right_ankle", "right_toetip"), 3.0),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Framing:
    """Where the picture looks and how much it magnifies."""

    pixels_per_mm: float
    centre_mm: F64
    """`[3]` in the mouse's frame: the point in the middle of the picture."""


def frame(
    mouse: Mouse,
    view: str,
    height: int,
    width: int,
    margin: float = 0.05,
    *,
    rotation_deg: float = 0.0,
    tilt_deg: float = 0.0,
    flip: bool = False,
) -> Framing:
    """The largest magnification at which `view` shows what it is for, `margin` of each side left free."""
    camera = _camera(view, rotation_deg, tilt_deg, flip)
    posture = _posture(mouse, view)
    if view in _SHOWN:
        names, beyond = _SHOWN[view]
        seen = np.stack([posture.landmarks[name] for name in names]) @ camera.T
        low, high = seen.min(axis=0) - beyond, seen.max(axis=0) + beyond
    else:
        solids = posture.solids
        radius = np.concatenate([solids.start_radius, solids.end_radius])[:, None]
        ends = np.concatenate([solids.start, solids.end]) @ camera.T
        reach = np.sqrt(((solids.axes @ camera.T) ** 2).sum(axis=1))
        middle = solids.centre @ camera.T
        low = np.concatenate([ends - radius, middle - reach]).min(axis=0)
        high = np.concatenate([ends + radius, middle + reach]).max(axis=0)
    extent = np.maximum(high - low, 1e-3)
    scale = (1.0 - 2.0 * margin) * min(width / extent[0], height / extent[1])
    return Framing(pixels_per_mm=float(scale), centre_mm=(low + high) / 2.0 @ camera)


def project(
    mouse: Mouse,
    view: str,
    *,
    height: int,
    width: int,
    pixels_per_mm: float,
    rotation_deg: float = 0.0,
    centre_mm: F64 | None = None,
    tilt_deg: float = 0.0,
    flip: bool = False,
) -> F32:
    """Optical depth `float32[height, width]`, 0 in air; the head is up before `rotation_deg` (counter-clockwise).

    `tilt_deg` rolls the animal about its long axis, `flip` mirrors the picture, `centre_mm` `[3]` is the point of
    the mouse's frame in the middle of the picture (default: where `frame` would look). A lateral view shows dorsal
    to the right. Raises `UsageError` (MX-U002) for a view that IMPC does not have.
    """
    camera = _camera(view, rotation_deg, tilt_deg, flip)
    if centre_mm is None:
        centre_mm = frame(
            mouse, view, height, width, rotation_deg=rotation_deg, tilt_deg=tilt_deg, flip=flip
        ).centre_mm
    depth = np.zeros((height, width), dtype=np.float32)
    draw(depth, _posture(mouse, view).solids, camera, np.asarray(centre_mm), pixels_per_mm)
    return np.maximum(depth, 0.0, out=depth)


def _posture(mouse: Mouse, view: str) -> Posture:
    return mouse.side if view in _LATERAL else mouse.prone


def _camera(view: str, rotation_deg: float, tilt_deg: float, flip: bool) -> F64:
    if view not in VIEWS:
        raise UsageError("MX-U002", f"unknown view '{view}'", fix=f"name one of {', '.join(VIEWS)}")
    roll, turn = np.deg2rad(tilt_deg), np.deg2rad(rotation_deg)
    about_y = np.array(
        [[np.cos(roll), 0.0, np.sin(roll)], [0.0, 1.0, 0.0], [-np.sin(roll), 0.0, np.cos(roll)]]
    )
    in_plane = np.array(
        [[np.cos(turn), -np.sin(turn), 0.0], [np.sin(turn), np.cos(turn), 0.0], [0.0, 0.0, 1.0]]
    )
    mirror = np.diag([-1.0 if flip else 1.0, 1.0, 1.0])
    camera: F64 = mirror @ in_plane @ (_SIDE if view in _LATERAL else _PRONE) @ about_y
    return camera
