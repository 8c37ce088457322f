"""What the film makes of optical depth, what else lies in the beam, and how pictures become files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.radiograph import decode
from mxbatch.engine.errors import UsageError
from mxbatch.engine.file_formats import FILE_FORMATS, SUFFIXES
from mxbatch.trainer.phantom.centres import named_centres, read_centres
from mxbatch.trainer.phantom.film import WHITE, Look, drifted, expose, soften
from mxbatch.trainer.phantom.mouse import Mouse, grow
from mxbatch.trainer.phantom.props import add_collimator, add_letter, add_plate_edge, add_rod
from mxbatch.trainer.phantom.shot import Nuisance, shoot

TIDY = Look(blur=0, heel=0, black=0.1, white=0.9)


@pytest.fixture(scope="module")
def mouse() -> Mouse:
    return grow({}, sex="female", seed=2)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def wedge(height: int = 64, width: int = 256) -> np.ndarray:
    """Optical depth 0 to 4 from left to right."""
    return np.tile(np.linspace(0, 4, width, dtype=np.float32), (height, 1))


@pytest.mark.parametrize("scale", ["linear", "log"])
@pytest.mark.parametrize("bend", [-1.0, 0.0, 1.0])
def test_more_matter_is_never_darker_and_air_is_black(scale: str, bend: float) -> None:
    look = Look(blur=0, heel=0, black=0.1, white=0.9, scale=scale, bend=bend)
    grey = expose(wedge(), look, rng(), noise=0)
    assert grey.dtype == np.uint16
    assert (np.diff(grey[0].astype(int)) >= 0).all()
    assert grey[0, 0] == round(0.1 * WHITE)
    assert grey[0, -1] > 0.5 * WHITE


def test_a_linear_scale_shows_the_share_of_light_that_was_absorbed() -> None:
    depth = np.full((4, 4), np.log(2), np.float32)
    assert expose(depth, TIDY, rng(), noise=0)[0, 0] == pytest.approx(0.5 * WHITE, abs=1)


def test_a_higher_voltage_shines_through_more() -> None:
    soft, hard = (expose(wedge(), Look(hardness=h, heel=0), rng(), noise=0).mean() for h in (1.2, 0.6))
    assert hard < soft


def test_noise_in_the_open_beam_is_that_of_the_photons_and_the_electronics() -> None:
    look = Look(photons=2500, readout=0.015, blur=0, heel=0, black=0.3, white=0.9)
    grey = expose(np.zeros((1024, 256), np.float32), look, rng()).astype(float)
    expected = np.hypot(1 / np.sqrt(2500), 0.015) * 0.6 * WHITE
    assert grey.std() == pytest.approx(expected, rel=0.02)
    assert grey.mean() == pytest.approx(0.3 * WHITE, rel=0.01)


def test_behind_bone_the_quantum_noise_is_small_in_light_and_large_in_depth() -> None:
    depth = np.zeros((1024, 512), np.float32)
    depth[:, 256:] = 3
    noise = [
        [side.astype(float).std() for side in np.split(expose(depth.copy(), look, rng()), 2, axis=1)]
        for look in (Look(readout=0, blur=0, heel=0), Look(readout=0, blur=0, heel=0, scale="log"))
    ]
    (air, bone), (air_depth, bone_depth) = noise
    assert bone == pytest.approx(air * np.exp(-1.5), rel=0.05)
    assert bone_depth == pytest.approx(air_depth * np.exp(1.5), rel=0.05)


def test_larger_pixels_collect_more_light() -> None:
    small = expose(np.zeros((512, 512), np.float32), Look(readout=0, heel=0), rng()).astype(float)
    large = expose(np.zeros((1024, 1024), np.float32), Look(readout=0, heel=0), rng()).astype(float)
    assert small.std() == pytest.approx(large.std() / 2, rel=0.05)


def test_without_noise_the_generator_is_not_asked() -> None:
    one, other = (expose(wedge(), Look(), rng(seed), noise=0) for seed in (1, 2))
    np.testing.assert_array_equal(one, other)


@given(deviation=st.floats(0, 2.5))
def test_a_blur_keeps_the_light_and_adds_its_variance(deviation: float) -> None:
    picture = np.zeros((41, 41), np.float32)
    picture[20, 20] = 1
    blurred = soften(picture, deviation)
    place = np.arange(41) - 20
    assert blurred.sum() == pytest.approx(1, abs=1e-5)
    assert blurred.sum(axis=0) @ place**2 == pytest.approx(deviation**2, abs=1e-3)
    assert blurred.sum(axis=1) @ place**2 == pytest.approx(deviation**2, abs=1e-3)


def test_a_blur_reflects_at_the_border() -> None:
    np.testing.assert_allclose(soften(np.ones((8, 5), np.float32), 1.5), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "nonsense",
    [
        {"scale": "cubic"},
        {"photons": 0.0},
        {"hardness": -1.0},
        {"readout": -0.1},
        {"bend": 1.5},
        {"black": 0.9, "white": 0.5},
    ],
)
def test_an_impossible_look_is_refused(nonsense: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"MX-U001.*look"):
        Look(**nonsense)


def test_a_look_without_drift_is_itself() -> None:
    assert drifted(TIDY, rng(), 0) == TIDY


@given(seed=st.integers(0, 10_000), amount=st.floats(0, 1))
def test_every_drift_of_every_centre_is_a_possible_look(seed: int, amount: float) -> None:
    for centre in read_centres():
        drifted(centre.look, rng(seed), amount)


@pytest.mark.parametrize("shape", [(96, 200), (200, 96)])
def test_a_rod_in_full_sight_weighs_what_its_volume_weighs(shape: tuple[int, int]) -> None:
    depth = np.zeros(shape, np.float32)
    add_rod(depth, rng(3), pixels_per_mm=1.0)
    assert depth.sum() == pytest.approx(1.2 * np.pi * 1.2**2 * 70, rel=0.02)


@pytest.mark.parametrize("seed", range(8))
def test_things_beside_the_animal_only_add_matter_and_leave_the_middle_alone(seed: int) -> None:
    depth = np.zeros((240, 160), np.float32)
    add_letter(depth, rng(seed), 2.0)
    add_collimator(depth, rng(seed))
    add_plate_edge(depth, rng(seed))
    assert depth.max() > 1
    assert depth.min() == 0
    assert not depth[60:180, 40:120].any()


def test_a_letter_without_room_is_left_out() -> None:
    depth = np.zeros((4, 40), np.float32)
    add_letter(depth, rng(), 2.0)
    assert not depth.any()


@pytest.mark.parametrize("name", FILE_FORMATS)
def test_what_is_written_in_any_format_is_read_back(name: str) -> None:
    picture = expose(wedge(96, 128), TIDY, rng(), noise=0)
    contract = InputContract(size=128, window=(0, 100), jpeg_scaled=False)
    data = FILE_FORMATS[name](picture)
    seen = decode(data, contract, Limits()).image[16:112].astype(float)
    span = picture.astype(float) - picture.min()
    np.testing.assert_allclose(seen, 255 * span / span.max(), atol=4)
    assert data == FILE_FORMATS[name](picture)


def test_every_centre_writes_a_known_format() -> None:
    assert {centre.format for centre in read_centres()} <= set(FILE_FORMATS) == set(SUFFIXES)


def test_every_centre_gives_ids_that_its_animals_need() -> None:
    for centre in read_centres():
        assert "{serial" in centre.specimen
        assert any(word in centre.colony for word in ("{line", "{gene}", "{GENE}", "{letters}"))


def test_an_unknown_centre_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'Atlantis'.*MRC Harwell"):
        named_centres(["JAX", "Atlantis"])


def test_a_frame_keeps_its_shape_at_any_size() -> None:
    (harwell,) = named_centres(["MRC Harwell"])
    assert harwell.frame_at(None) == (640, 1280)
    assert harwell.frame_at(128) == (64, 128)


def border(picture: np.ndarray) -> np.ndarray:
    """The outermost pixels on all sides."""
    return np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])


@pytest.mark.parametrize("name", ["JAX", "HMGU", "WTSI"])
@pytest.mark.parametrize("view", ["dv", "lv"])
def test_a_tidy_shot_holds_the_whole_animal_and_nothing_else(mouse: Mouse, name: str, view: str) -> None:
    (centre,) = named_centres([name])
    centre = replace(centre, look=replace(centre.look, heel=0.0))
    picture = shoot(mouse, view, centre, rng(), Nuisance.none(), 160)
    assert picture.shape == centre.frame_at(160)
    assert np.ptp(border(picture)) == 0
    assert np.ptp(picture) > 0.3 * WHITE


def test_something_of_a_cropped_animal_is_outside(mouse: Mouse) -> None:
    (centre,) = named_centres(["JAX"])
    centre = replace(centre, look=replace(centre.look, heel=0.0))
    cropped = [
        shoot(mouse, "dv", centre, rng(seed), replace(Nuisance.none(), cropped=1.0), 160) for seed in range(4)
    ]
    assert all(np.ptp(border(picture)) > 0.02 * WHITE for picture in cropped)


def test_an_animal_on_its_back_is_a_mirror_image(mouse: Mouse) -> None:
    (centre,) = named_centres(["JAX"])
    prone, supine = (
        shoot(mouse, "dv", centre, rng(), replace(Nuisance.none(), mirrored=share), 160).astype(int)
        for share in (0.0, 1.0)
    )
    assert np.abs(np.fliplr(supine) - prone).mean() < 0.1 * np.abs(supine - prone).mean()


def test_free_orientation_turns_the_animal_anywhere(mouse: Mouse) -> None:
    (centre,) = named_centres(["JAX"])
    free = replace(Nuisance.none(), free_orientation=1.0)
    spread = [
        np.std(np.nonzero(shoot(mouse, "dv", centre, rng(seed), free, 96) > 0.5 * WHITE), axis=1)
        for seed in range(8)
    ]
    lying = sum(across > along for along, across in spread)
    assert 1 <= lying <= 7


@pytest.mark.parametrize(
    "nonsense",
    [
        {"cropped": 1.5},
        {"letter": -0.1},
        {"noise": -1.0},
        {"noise": float("nan")},
        {"missing_view": float("nan")},
    ],
)
def test_an_impossible_nuisance_is_refused(nonsense: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"MX-U001.*nuisance"):
        Nuisance(**nonsense)
