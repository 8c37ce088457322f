"""The input contract, step by step: what becomes of grey values between the file and the model."""

from __future__ import annotations

import dataclasses

import corpus
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.fault import Kind, Refused
from mxbatch.engine.decode.plane import Plane, channels_of
from mxbatch.engine.decode.prepare import block_means, prepare, window
from mxbatch.engine.decode.radiograph import decode
from mxbatch.engine.errors import RadiographError, UsageError

LIMITS = Limits()


def plane(grey, **options):
    return Plane((grey,), grey.shape[1], grey.shape[0], **options)


@pytest.mark.parametrize(
    "nonsense",
    [
        {"size": 0},
        {"size": 224.0},
        {"size": True},
        {"size": 100_000},
        {"window": (5, 5)},
        {"window": (99, 1)},
        {"window": (-1, 99)},
        {"window": (1, 101)},
        {"window": (float("nan"), 99)},
        {"window": (1,)},
        {"window": None},
        {"jpeg_scaled": 1},
        {"upright": "yes"},
    ],
)
def test_nonsense_is_refused_at_birth(nonsense):
    with pytest.raises(UsageError, match="MX-U007"):
        InputContract(**nonsense)


def test_a_contract_survives_the_way_through_plain_values():
    contract = InputContract(size=320, window=(1, 99), jpeg_scaled=False, upright=True)
    assert InputContract.from_dict(contract.as_dict()) == contract
    assert contract.as_dict() == {
        "size": 320, "window": [1.0, 99.0], "jpeg_scaled": False, "upright": True
    }  # fmt: skip


def test_an_unknown_key_is_answered_with_the_known_ones():
    with pytest.raises(UsageError, match=r"sice: no such key; known: size, window, jpeg_scaled, upright"):
        InputContract.from_dict({"sice": 224})


def test_contract_and_limits_cannot_change_after_birth():
    with pytest.raises(dataclasses.FrozenInstanceError):
        InputContract().size = 64
    with pytest.raises(dataclasses.FrozenInstanceError):
        LIMITS.max_pixels = 1


@pytest.mark.parametrize(
    ("height", "width", "shown"),
    [(120, 200, (38, 64)), (200, 120, (64, 38)), (5, 3, (64, 38)), (1, 900, (1, 64))],
)
def test_the_longest_side_becomes_s_and_the_rest_is_padded_evenly(height, width, shown):
    image = prepare(plane(corpus.mouse(height, width) // 2 + 100, white_is_zero=True), InputContract(size=64))
    assert (image.shape, image.dtype, image.flags.c_contiguous) == ((64, 64), np.uint8, True)
    top, left = (64 - shown[0]) // 2, (64 - shown[1]) // 2
    outside = image.copy()
    outside[top : top + shown[0], left : left + shown[1]] = 0
    assert not outside.any()
    assert image[top : top + shown[0], left : left + shown[1]].any(axis=0).mean() > 0.9


def test_the_window_is_set_by_percentiles_of_the_reduced_picture_rounded_and_clipped():
    grey = np.arange(1001, dtype=np.float32).reshape(7, 143)
    shown = window(grey, (10, 90), inverted=False)
    expected = np.rint((grey - 100) / 800 * 255).clip(0, 255).astype(np.uint8)
    np.testing.assert_array_equal(shown, expected)


def test_shift_and_scale_of_the_grey_values_do_not_matter():
    grey = corpus.mouse(90, 130, bits=12)
    first, second = (prepare(plane(levels), InputContract(size=64)) for levels in (grey, grey * 7 + 900))
    assert np.abs(first.astype(int) - second).max() <= 1


def test_white_is_zero_inverts_the_picture_and_leaves_the_padding_black():
    grey = corpus.mouse(64, 64)
    upright = prepare(plane(grey), InputContract(size=64))
    np.testing.assert_array_equal(
        prepare(plane(grey, white_is_zero=True), InputContract(size=64)), 255 - upright
    )
    assert not prepare(plane(grey[:32], white_is_zero=True), InputContract(size=64))[:16].any()


@pytest.mark.parametrize("level", [0, 127, 60_001])
@pytest.mark.parametrize("shape", [(500, 333), (1, 1), (40, 41)])
def test_a_picture_without_contrast_is_blank_whatever_rounding_leaves(level, shape):
    with pytest.raises(Refused) as refusal:
        prepare(plane(np.full(shape, level, np.uint16)), InputContract(size=64))
    assert refusal.value.kind is Kind.BLANK


def test_blank_has_the_code_of_its_family():
    with pytest.raises(RadiographError) as error:
        decode(corpus.dicom(pixels=np.full((9, 9), 7, np.uint16)), InputContract(), LIMITS)
    assert error.value.code == "MX-D507"


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    factor=st.integers(2, 50),
    dtype=st.sampled_from(["u1", "u2", ">u2", "f4"]),
)
def test_block_means_are_means_also_where_blocks_are_cut_by_the_edge(height, width, factor, dtype):
    grey = np.random.default_rng(height * width).integers(0, 256, (height, width)).astype(dtype)
    expected = [
        [grey[y : y + factor, x : x + factor].astype(float).mean() for x in range(0, width, factor)]
        for y in range(0, height, factor)
    ]
    np.testing.assert_allclose(block_means(grey, factor), expected, rtol=1e-5)


def test_reduction_keeps_every_row_in_its_place():
    """A ramp stays a ramp: reading blocks and then resizing shifts nothing, with sizes that do not divide."""
    height, width, size = 1003, 617, 64
    ramp = np.add.outer(np.arange(height) * 40, np.arange(width) * 20).astype(np.uint16)
    ours = prepare(plane(ramp), InputContract(size=size, window=(0, 100)))
    whole = Image.fromarray(ramp.astype(np.float32)).resize((39, 64), Image.Resampling.BICUBIC)
    expected = np.asarray(whole)
    expected = np.rint((expected - expected.min()) / np.ptp(expected) * 255)
    assert np.abs(ours[:, 12:51] - expected).max() <= 1


def test_a_pattern_finer_than_the_target_is_averaged_and_not_sampled():
    stripes = np.zeros((600, 600), np.uint8)
    stripes[:, ::2] = 200
    stripes[:300] //= 2
    shown = prepare(plane(stripes), InputContract(size=64))
    assert np.ptp(shown[5:27]) <= 2
    assert np.ptp(shown[37:59]) <= 2


@pytest.mark.parametrize("dtype", ["i1", "i2", ">i2", "i4", "u4", "i8", "f4", "f8"])
def test_signed_wide_and_floating_values_keep_their_order(dtype):
    values = np.array([[-100, -3, 0, 5, 90]] if dtype[-2] != "u" else [[0, 3, 5, 9, 90]]).astype(dtype)
    (grey,) = channels_of([values])
    assert grey.dtype in (np.uint8, np.uint16, np.float32)
    assert (np.diff(grey[0].astype(float)) > 0).all()


def test_nan_and_infinity_count_as_the_least_value():
    (grey,) = channels_of([np.array([[np.nan, np.inf, -np.inf, 2.0, 4.0]])])
    np.testing.assert_array_equal(grey, np.array([[0, 0, 0, 0, 1]], np.float32))


def test_values_at_the_ends_of_double_precision_do_not_overflow():
    (grey,) = channels_of([np.array([[-1.7e308, 0.0, 1.7e308]])])
    np.testing.assert_allclose(grey, [[0, 0.5, 1]], rtol=1e-6)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_a_jpeg_at_reduced_size_shows_what_the_full_size_shows(size):
    data = corpus.jpeg(900, 1301, mode="RGB")
    scaled, full = (
        decode(data, InputContract(size=size, jpeg_scaled=choice), LIMITS) for choice in (True, False)
    )
    assert (scaled.width, scaled.height) == (full.width, full.height) == (1301, 900)
    assert np.abs(scaled.image.astype(int) - full.image).mean() < 2


def test_real_radiographs_fill_the_grey_scale_and_reduced_decoding_stays_close(radiographs):
    for path in sorted(radiographs.glob("*.jpg")):
        scaled, full = (
            decode(path.read_bytes(), InputContract(jpeg_scaled=choice), LIMITS).image
            for choice in (True, False)
        )
        assert (scaled.min(), scaled.max()) == (0, 255)
        assert np.abs(scaled.astype(int) - full).mean() < 3
