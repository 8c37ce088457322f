"""The projector against what can be worked out on paper."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mxbatch.engine.archive.views import VIEWS
from mxbatch.engine.errors import UsageError
from mxbatch.trainer.phantom.mouse import Mouse, grow
from mxbatch.trainer.phantom.project import frame, project
from mxbatch.trainer.phantom.raster import draw
from mxbatch.trainer.phantom.solids import Cast, Solids

FRONT = np.eye(3)
ORIGIN = np.zeros(3)


@pytest.fixture(scope="module")
def mouse() -> Mouse:
    return grow(seed=11)


def depth_of(
    solids: Solids,
    size: int = 101,
    scale: float = 10.0,
    camera: NDArray[np.float64] = FRONT,
    shift_px: tuple[float, float] = (0.0, 0.0),
) -> NDArray[np.float32]:
    """Depth `[size, size]` with the origin in the middle of the picture, or `shift_px` beside it (right, up)."""
    depth = np.zeros((size, size), dtype=np.float32)
    draw(depth, solids, camera, camera.T @ np.array([*shift_px, 0.0]) / scale, scale)
    return depth


def mean_mass(solids: Solids, size: int, scale: float, camera: NDArray[np.float64] = FRONT) -> float:
    """Mass over the places that solids can have on the grid of pixels, as a thin one may hit or miss a sample."""
    places = [((i + 0.4) / 8, (j + 0.4) / 8) for i in range(8) for j in range(8)]
    return float(np.mean([mass(depth_of(solids, size, scale, camera, place), scale) for place in places]))


def mass(depth: NDArray[np.float32], scale: float) -> float:
    """Density times volume, in the units of the solids."""
    return float(depth.sum(dtype=np.float64)) / scale**2


def turned(yaw: float, pitch: float) -> NDArray[np.float64]:
    c, s, k, t = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, k, -t], [0, t, k]])


def rod(length: float = 4.0, first: float = 0.8, last: float = 0.8, density: float = 1.0) -> Solids:
    cast = Cast()
    cast.rods([0.0, -length / 2, 0.0], [0.0, length / 2, 0.0], first, density, end_radius=last)
    return cast.set()


def rod_volume(length: float, radius: float) -> float:
    return np.pi * radius**2 * (length + 4.0 / 3.0 * radius)


def test_a_ray_through_a_ball_is_as_long_as_the_chord() -> None:
    cast = Cast()
    cast.ellipsoids(ORIGIN, [2.0, 2.0, 2.0], 0.5)
    depth = depth_of(cast.set())
    at = (np.arange(101) + 0.5 - 50.5) / 10.0
    expected = np.sqrt(np.clip(4.0 - at**2, 0.0, None))
    inside = np.abs(at) < 1.9
    np.testing.assert_allclose(depth[50, inside], expected[inside], atol=0.01)


def test_an_ellipsoid_is_as_deep_as_its_axis_to_the_viewer() -> None:
    cast = Cast()
    cast.ellipsoids(ORIGIN, [3.0, 1.0, 2.0], 1.0)
    assert depth_of(cast.set())[50, 50] == pytest.approx(4.0, rel=0.01)


def test_a_rod_across_the_view_shows_its_diameter_and_its_round_ends() -> None:
    depth = depth_of(rod())
    assert depth[50, 50] == pytest.approx(1.6, abs=1e-3)
    assert depth[50, 54] == pytest.approx(2 * np.sqrt(0.64 - 0.16), abs=1e-3)
    assert depth[50 - 25, 50] == pytest.approx(2 * np.sqrt(0.64 - 0.25), abs=1e-3)  # 0.5 mm beyond its end
    assert depth[50 - 29, 50] == 0.0


def test_a_rod_seen_along_its_axis_shows_its_length() -> None:
    depth = depth_of(rod(), camera=turned(0.0, np.pi / 2))
    assert depth[50, 50] == pytest.approx(4.0 + 2 * 0.8, rel=1e-3)


def test_a_leaning_rod_is_longer_to_a_ray_by_the_cosine() -> None:
    depth = depth_of(rod(), camera=turned(0.0, np.deg2rad(50.0)))
    assert depth[50, 50] == pytest.approx(1.6 / np.cos(np.deg2rad(50.0)), rel=1e-3)


def test_a_cone_is_as_thick_as_its_circle_there() -> None:
    depth = depth_of(rod(first=1.0, last=0.5))
    # The largest ball along the axis that a ray through the middle meets, for a taper of 0.5 in 4.
    assert depth[50, 50] == pytest.approx(2 * 0.75 / np.sqrt(1 - (0.5 / 4.0) ** 2), rel=1e-3)


@settings(max_examples=30, deadline=None)
@given(
    yaw=st.floats(-3.2, 3.2),
    pitch=st.floats(-1.6, 1.6),
    radius=st.floats(0.05, 1.5),
    scale=st.floats(4.0, 20.0),
)
def test_a_rod_keeps_its_mass_however_it_is_turned_and_magnified(
    yaw: float, pitch: float, radius: float, scale: float
) -> None:
    size = int(8.0 * scale)
    drawn = mean_mass(rod(first=radius, last=radius), size, scale, turned(yaw, pitch))
    assert drawn == pytest.approx(rod_volume(4.0, radius), rel=0.02)


@settings(max_examples=30, deadline=None)
@given(
    yaw=st.floats(-3.2, 3.2),
    pitch=st.floats(-1.6, 1.6),
    thin=st.floats(0.01, 1.0),
    scale=st.floats(4.0, 20.0),
)
def test_an_ellipsoid_keeps_its_mass_even_as_a_thin_plate(
    yaw: float, pitch: float, thin: float, scale: float
) -> None:
    cast = Cast()
    cast.ellipsoids(ORIGIN, [2.0, 1.5, thin], 1.0)
    drawn = mean_mass(cast.set(), int(8.0 * scale), scale, turned(yaw, pitch))
    assert drawn == pytest.approx(4.0 / 3.0 * np.pi * 2.0 * 1.5 * thin, rel=0.04)


@settings(max_examples=30, deadline=None)
@given(pitch=st.floats(0.0, 1.5), first=st.floats(0.2, 1.4), last=st.floats(0.2, 1.4))
def test_a_cone_keeps_its_mass_at_any_lean(pitch: float, first: float, last: float) -> None:
    level = mass(depth_of(rod(first=first, last=last), size=141, scale=15.0), 15.0)
    leaning = mass(
        depth_of(rod(first=first, last=last), size=141, scale=15.0, camera=turned(0.0, pitch)), 15.0
    )
    assert leaning == pytest.approx(
        level, rel=0.08
    )  # seen steeply, a cone is drawn as a cylinder of its volume


def test_a_straight_chain_is_one_rod() -> None:
    cast = Cast()
    cast.chain(np.stack([np.zeros(5), np.linspace(-2.0, 2.0, 5), np.zeros(5)], axis=1), 0.8, 1.0)
    np.testing.assert_allclose(depth_of(cast.set()), depth_of(rod()), atol=2e-3)


def test_a_tube_is_brighter_at_its_walls_than_in_its_middle() -> None:
    cast = Cast()
    cast.tubes([0.0, -2.0, 0.0], [0.0, 2.0, 0.0], 1.0, 1.0, wall=0.2, marrow=0.0)
    depth = depth_of(cast.set())
    assert depth[50, 50] == pytest.approx(0.4, abs=1e-3)
    assert depth[50, 58] > 2 * depth[50, 50]


@settings(max_examples=20, deadline=None)
@given(pitch=st.floats(-1.57, 1.57), taper=st.floats(0.1, 3.0))
def test_a_chain_of_cones_leaves_no_trace_of_its_joints(pitch: float, taper: float) -> None:
    radii = np.array([0.5 + taper, 0.5 + taper / 2, 0.5])
    cast = Cast()
    cast.chain(np.stack([np.zeros(3), np.linspace(-1.0, 1.0, 3), np.zeros(3)], axis=1), radii, 1.0)
    whole = depth_of(rod(length=2.0, first=radii[0], last=radii[2]), camera=turned(0.0, pitch))
    pieces = depth_of(cast.set(), camera=turned(0.0, pitch))
    assert np.abs(pieces - whole).max() < 0.005


def test_a_solid_cut_by_the_border_is_the_same_inside_it() -> None:
    whole = depth_of(rod(), size=101)
    np.testing.assert_allclose(depth_of(rod(), size=31), whole[35:66, 35:66], atol=1e-5)


def test_air_is_zero_and_nothing_is_below_it(mouse: Mouse) -> None:
    depth = project(mouse, "dv", height=160, width=200, pixels_per_mm=1.2)
    assert depth.shape == (160, 200)
    assert depth.dtype == np.float32
    assert depth.min() == 0.0
    assert depth[0, 0] == 0.0


def test_turning_and_mirroring_the_picture_are_only_that(mouse: Mouse) -> None:
    look = {"height": 121, "width": 121, "pixels_per_mm": 0.8, "centre_mm": ORIGIN}
    upright = project(mouse, "dv", **look)
    np.testing.assert_allclose(project(mouse, "dv", **look, rotation_deg=90.0), np.rot90(upright), atol=0.02)
    np.testing.assert_allclose(project(mouse, "dv", **look, flip=True), upright[:, ::-1], atol=0.02)


def test_the_whole_animal_weighs_the_same_at_any_magnification(mouse: Mouse) -> None:
    small = frame(mouse, "dv", 128, 128)
    large = frame(mouse, "dv", 512, 512)
    weights = [
        mass(
            project(mouse, "dv", height=n, width=n, pixels_per_mm=f.pixels_per_mm, centre_mm=f.centre_mm),
            f.pixels_per_mm,
        )
        for n, f in ((128, small), (512, large))
    ]
    assert weights[0] == pytest.approx(weights[1], rel=0.02)


@pytest.mark.parametrize("rotation", [0.0, 35.0, 180.0])
@pytest.mark.parametrize("view", ["dv", "lv"])
def test_a_whole_body_is_framed_with_air_all_around(mouse: Mouse, view: str, rotation: float) -> None:
    framing = frame(mouse, view, 200, 300, 0.05, rotation_deg=rotation)
    depth = project(
        mouse,
        view,
        height=200,
        width=300,
        pixels_per_mm=framing.pixels_per_mm,
        rotation_deg=rotation,
        centre_mm=framing.centre_mm,
    )
    assert max(depth[:8].max(), depth[-8:].max(), depth[:, :8].max(), depth[:, -8:].max()) == 0.0
    rows, columns = np.nonzero(depth)
    assert max(np.ptp(rows) / 200, np.ptp(columns) / 300) > 0.85


def test_close_views_magnify_and_fill_the_picture(mouse: Mouse) -> None:
    whole = frame(mouse, "dv", 256, 256).pixels_per_mm
    for view in ("skull_dv", "skull_lv", "forepaw", "hind_leg"):
        framing = frame(mouse, view, 256, 256)
        assert framing.pixels_per_mm > 2.5 * whole
        depth = project(
            mouse,
            view,
            height=256,
            width=256,
            pixels_per_mm=framing.pixels_per_mm,
            centre_mm=framing.centre_mm,
        )
        assert (depth > 0.0).mean() > 0.2


def test_every_view_can_be_drawn_without_a_centre(mouse: Mouse) -> None:
    for view in VIEWS:
        assert project(mouse, view, height=40, width=40, pixels_per_mm=0.4).max() > 0.5


def test_a_view_that_impc_does_not_have_is_refused(mouse: Mouse) -> None:
    with pytest.raises(UsageError, match="MX-U002"):
        project(mouse, "ventral", height=40, width=40, pixels_per_mm=0.4)
