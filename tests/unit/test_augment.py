"""A changed radiograph is still one: same size, same animal, nothing mirrored unless somebody asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mxbatch.engine.drawing import draw_radiograph
from mxbatch.trainer.augment import Change, apply, draw_change, grey_table
from mxbatch.trainer.loader import ahead, augmented, keep_some
from mxbatch.trainer.training import Augment

SIDE = 48
NOTHING = Augment(rotation_deg=0, shear_deg=0, scale=0, translate=0, blur=0, noise=0, exposure=0, mirror=0)
STRONG = Augment(rotation_deg=90, shear_deg=20, scale=0.4, translate=0.3, blur=2, noise=0.2, exposure=0.8)


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    drawn = draw_radiograph("dv", seed=0, height=SIDE, width=SIDE)
    return (drawn // 256 if drawn.dtype == np.uint16 else drawn).astype(np.uint8)


def still(**changed: object) -> Change:
    return replace(draw_change(NOTHING, random()), **changed)  # type: ignore[arg-type]


def test_no_limits_mean_no_change(picture: NDArray[np.uint8]) -> None:
    assert np.array_equal(apply(draw_change(NOTHING, random()), picture), picture)


@given(seed=st.integers(0, 2**32))
def test_even_the_strongest_changes_give_a_picture_of_the_same_kind(seed: int) -> None:
    picture = random(1).integers(0, 256, (SIDE, SIDE), np.uint8)
    changed = apply(draw_change(STRONG, random(seed)), picture)
    assert (changed.shape, changed.dtype) == (picture.shape, np.uint8)


@given(seed=st.integers(0, 2**32))
def test_every_draw_keeps_to_its_limits(seed: int) -> None:
    limits = Augment()
    change = draw_change(limits, random(seed))
    assert abs(change.angle_deg) <= limits.rotation_deg
    assert max(map(abs, change.shear_deg)) <= limits.shear_deg
    assert abs(change.scale - 1) <= limits.scale
    assert max(map(abs, change.translate)) <= limits.translate
    assert 0 <= change.blur <= limits.blur
    assert 0 <= change.noise <= limits.noise
    assert not change.mirrored


def test_the_same_random_numbers_give_the_same_pictures(picture: NDArray[np.uint8]) -> None:
    many = np.stack([picture] * 5)
    one, same, other = (augmented(many, STRONG, random(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert len(np.unique(one, axis=0)) == 5


def test_no_radiographs_are_no_trouble() -> None:
    assert augmented(np.empty((0, SIDE, SIDE), np.uint8), STRONG, random()).shape == (0, SIDE, SIDE)


def test_a_move_is_to_the_right_and_down() -> None:
    dot = np.zeros((SIDE, SIDE), np.uint8)
    dot[20, 10] = 255
    moved = apply(still(translate=(0.25, 0.125)), dot)
    assert np.unravel_index(moved.argmax(), moved.shape) == (26, 22)


def test_a_turn_keeps_the_middle_where_it_is() -> None:
    blob = np.zeros((SIDE, SIDE), np.uint8)
    blob[22:26, 4:44] = 200
    turned = apply(still(angle_deg=90.0), blob)
    assert turned[24, 24] == 200
    assert turned[6:42, 22:26].mean() > 150 > 50 > turned[22:26, 6:16].mean()


def test_a_mirrored_radiograph_has_left_and_right_exchanged(picture: NDArray[np.uint8]) -> None:
    assert np.array_equal(apply(still(mirrored=True), picture), picture[:, ::-1])
    assert not any(draw_change(Augment(), random(seed)).mirrored for seed in range(50))
    assert all(draw_change(Augment(mirror=1.0), random(seed)).mirrored for seed in range(50))


def test_exposure_keeps_black_black_and_the_order_of_the_greys() -> None:
    for seed in range(20):
        table = grey_table(draw_change(Augment(exposure=0.5), random(seed)))
        assert table[0] == 0
        assert (np.diff(table.astype(int)) >= 0).all()


def test_blur_softens_an_edge_and_noise_roughens_a_plain(picture: NDArray[np.uint8]) -> None:
    edge = np.zeros((SIDE, SIDE), np.uint8)
    edge[:, SIDE // 2 :] = 200
    assert len(np.unique(apply(still(blur=1.5), edge))) > 4
    plain = np.full((SIDE, SIDE), 128, np.uint8)
    grain = apply(still(noise=0.1), plain)
    assert 20 < grain.std() < 32
    assert not np.array_equal(grain, apply(still(noise=0.1, grain=(7, 9)), plain))


@given(seed=st.integers(0, 2**16), dropout=st.floats(0, 0.95))
def test_view_dropout_leaves_each_specimen_something(seed: int, dropout: float) -> None:
    mask = random(seed).random((20, 4)) < 0.5
    kept = keep_some(mask, dropout, random(seed + 1))
    assert not (kept & ~mask).any()
    assert np.array_equal(kept.any(axis=1), mask.any(axis=1))


def test_view_dropout_leaves_out_about_its_share() -> None:
    mask = np.ones((2000, 4), bool)
    assert np.array_equal(keep_some(mask, 0.0, random()), mask)
    assert 0.72 < keep_some(mask, 0.25, random()).mean() < 0.78
    assert (keep_some(mask, 0.95, random()).sum(axis=1) >= 1).all()


def test_what_is_loaded_ahead_comes_in_order_and_a_fault_comes_out() -> None:
    assert list(ahead(lambda n: n * n, 9, threads=3)) == [n * n for n in range(9)]
    assert list(ahead(lambda n: n, 0)) == []

    def fail(number: int) -> int:
        if number == 2:
            raise ValueError("the third")
        return number

    with pytest.raises(ValueError, match="the third"):
        list(ahead(fail, 5))
