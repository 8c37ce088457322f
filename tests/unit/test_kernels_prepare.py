"""What a GPU would prepare is what the host prepares. Here the twin stands for the kernel, to which parity ties it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mxbatch.engine.decode.contract import InputContract
from mxbatch.engine.decode.fault import Refused
from mxbatch.engine.decode.plane import Plane
from mxbatch.engine.decode.prepare import prepare as prepare_on_host
from mxbatch.kernels.prepare import Axis, Normalise, Picture, filter_matrix, prepare

CPU = torch.device("cpu")
SIDES = st.integers(1, 150)


@settings(max_examples=60)
@given(
    SIDES, SIDES, st.sampled_from([np.uint8, np.uint16]), st.booleans(), st.integers(0, 9), st.integers(1, 2)
)
def test_any_picture_comes_out_within_one_grey_level_of_the_hosts(
    height: int, width: int, dtype: type, inverted: bool, seed: int, reduced: int
) -> None:
    """`reduced` pictures stand for JPEGs decoded at half their size, whose last row or column is half a pixel."""
    top = np.iinfo(dtype).max
    pixels = np.random.default_rng(seed).integers(0, top, (height, width), dtype, endpoint=True)
    original = (reduced * width - (reduced - 1), reduced * height - (reduced - 1))
    contract = InputContract(size=16)
    picture = Picture(torch.from_numpy(pixels), *original, white_is_zero=inverted)
    found = prepare([picture], contract.size, contract.window)
    try:
        expected = prepare_on_host(Plane((pixels,), *original, inverted), contract)
    except Refused:
        assert found.blank_B.tolist() == [True]
        return
    assert found.blank_B.tolist() == [False]
    assert np.abs(found.images_BSS[0].numpy().astype(int) - expected).max() <= 1


def test_pictures_of_all_sizes_and_depths_share_a_batch() -> None:
    deep = torch.arange(400, dtype=torch.int32).reshape(20, 20).to(torch.uint16)
    flat = torch.arange(250, dtype=torch.int32).reshape(50, 5).to(torch.uint8)
    pictures = [Picture(deep, 20, 20), Picture(flat, 5, 50)]
    together = prepare(pictures, 16, (0, 100))
    assert together.images_BSS.shape == (2, 16, 16)
    for place, picture in enumerate(pictures):
        assert torch.equal(together.images_BSS[place], prepare([picture], 16, (0, 100)).images_BSS[0])


def test_normalised_pictures_are_what_the_encoder_would_make_of_the_grey_ones() -> None:
    picture = Picture(torch.arange(256, dtype=torch.int32).reshape(16, 16).to(torch.uint8), 16, 16)
    found = prepare([picture], 16, (0, 100), Normalise(mean=0.5, std=0.25, dtype=torch.bfloat16))
    expected = ((found.images_BSS[:, None].float() / 255 - 0.5) / 0.25).to(torch.bfloat16)
    assert found.normalised_B1SS is not None
    assert torch.equal(found.normalised_B1SS, expected)


@given(st.integers(1, 500), st.integers(1, 64))
def test_the_filter_neither_lightens_nor_darkens(length: int, target: int) -> None:
    axis = Axis(length, max(1, length // (2 * target)), target)
    sums = filter_matrix(axis, CPU).sum(dim=1)
    torch.testing.assert_close(sums, torch.ones_like(sums))


@pytest.mark.parametrize(
    "pixels",
    [torch.zeros(4, 4), torch.zeros(4, dtype=torch.uint8), torch.zeros(0, 4, dtype=torch.uint8)],
    ids=["floating point", "one axis", "no pixel"],
)
def test_what_is_no_grey_plane_is_refused(pixels: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"uint8\|uint16\[H, W\]"):
        Picture(pixels, 4, 4)


def test_a_batch_has_pictures() -> None:
    with pytest.raises(ValueError, match="one or more"):
        prepare([], 16, (0, 100))
