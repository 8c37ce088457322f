"""The animal is turned head up and fills the picture, whatever way it lay (engine/decode/upright.py)."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from mxbatch.engine.decode.contract import InputContract
from mxbatch.engine.decode.plane import Plane
from mxbatch.engine.decode.prepare import pad, prepare
from mxbatch.engine.decode.upright import measure, upright
from mxbatch.trainer.phantom.mouse import grow
from mxbatch.trainer.phantom.project import frame, project

S = 64
SIDE = 112


@cache
def taken(view: str, degrees: float, *, flip: bool = False, width: int = SIDE) -> NDArray[np.uint8]:
    """A phantom whose head points `degrees` counter-clockwise from up, bone bright, in a frame `width` wide."""
    mouse = grow({}, sex="male", seed=3)
    seen = {"rotation_deg": degrees, "flip": flip}
    framing = frame(mouse, view, SIDE, width, 0.1, **seen)
    depth = project(
        mouse,
        view,
        height=SIDE,
        width=width,
        pixels_per_mm=framing.pixels_per_mm,
        centre_mm=framing.centre_mm,
        **seen,
    )
    shown = 1 - np.exp(-0.65 * depth)
    picture: NDArray[np.uint8] = (255 * shown / shown.max()).astype(np.uint8)
    return picture


def likeness(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    return float(np.corrcoef(first.ravel().astype(float), second.ravel().astype(float))[0, 1])


@pytest.mark.parametrize("view", ["dv", "lv"])
@pytest.mark.parametrize("degrees", [0, 45, 90, 135, 180, 250, 330])
def test_the_head_is_up_whatever_way_the_animal_lay(view: str, degrees: float) -> None:
    radians = np.deg2rad(degrees)
    lie = measure(taken(view, degrees))
    assert np.dot(lie.head, (-np.sin(radians), -np.cos(radians))) > np.cos(np.deg2rad(15))
    assert likeness(upright(taken(view, degrees), S), upright(taken(view, 0), S)) > 0.85


def test_the_frames_shape_is_forgotten() -> None:
    assert likeness(upright(taken("dv", 90, width=2 * SIDE), S), upright(taken("dv", 0), S)) > 0.9


def test_nothing_is_mirrored() -> None:
    """An animal on its other side faces the other way, before and after."""
    one, other = upright(taken("lv", 70), S), upright(taken("lv", 70, flip=True), S)
    assert likeness(one, other[:, ::-1]) > 0.9 > likeness(one, other)


def test_the_animal_fills_the_picture() -> None:
    bright = upright(taken("dv", 30), S) >= 64
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    assert max(np.ptp(rows), np.ptp(columns)) > 0.85 * S
    assert max(np.ptp(rows), np.ptp(columns)) < S - 1  # and nothing of it is cut off


def test_what_has_no_direction_is_not_turned() -> None:
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    disc = np.where(x**2 + y**2 < 30**2, 200, 0).astype(np.uint8)
    assert measure(disc).head == (0.0, -1.0)


@pytest.mark.parametrize("shape", [(64, 64), (40, 64), (200, 120)])
def test_an_empty_field_is_fitted_and_padded(shape: tuple[int, int]) -> None:
    field = np.full(shape, 40, np.uint8)
    shown = upright(field, S)
    assert shown.shape == (S, S)
    assert shown.max() == 40
    if max(shape) == S:
        np.testing.assert_array_equal(shown, pad(field, S))


@given(arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_any_picture_becomes_one(picture: NDArray[np.uint8]) -> None:
    shown = upright(picture, 16)
    assert shown.shape == (16, 16)
    assert shown.dtype == np.uint8
    assert shown.flags.c_contiguous
    np.testing.assert_array_equal(shown, upright(picture.copy(), 16))


def test_the_contract_reads_more_pixels_for_it_and_pads_nothing() -> None:
    contract = InputContract(size=S, upright=True)
    assert contract.reads == SIDE
    assert InputContract(size=S).reads == S
    grey = taken("dv", 90)
    shown = prepare(Plane((grey,), *grey.shape[::-1]), contract)
    assert shown.shape == (S, S)
    assert likeness(shown, upright(taken("dv", 0), S)) > 0.9
