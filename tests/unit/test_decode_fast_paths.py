"""Every fast path of decoding beside the plain way to the same numbers, over sizes, depths and kinds of files."""

from __future__ import annotations

from io import BytesIO

import corpus
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from mxbatch.engine.decode import bmp, prepare, tiff
from mxbatch.engine.decode.blocks import block_means
from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.pillow import grey_plane
from mxbatch.engine.decode.plane import Plane
from mxbatch.engine.decode.png import read_any_png, read_png
from mxbatch.engine.decode.radiograph import decode
from mxbatch.engine.decode.ranks import tails
from mxbatch.engine.decode.upright import _cell_means

CONTRACT, LIMITS = InputContract(size=32, window=(1, 99)), Limits()
SIDES = st.integers(1, 90)


def noise(height, width, *, bits=8):
    """Every value of `bits` bits may occur: the top of the range is where a sum overflows."""
    levels = np.random.default_rng(height * 1000 + width).integers(0, 2**bits, (height, width))
    levels.flat[-1] = 2**bits - 1
    return levels.astype(np.uint8 if bits <= 8 else np.uint16)


def plain_means(grey, factor):
    """`block_means` in double precision."""
    sums, counts = (
        np.add.reduceat(
            np.add.reduceat(part, range(0, part.shape[0], factor), 0), range(0, part.shape[1], factor), 1
        )
        for part in (grey.astype(np.float64), np.ones(grey.shape))
    )
    return sums / counts


# --- from grey values to the picture ---


@given(
    height=SIDES,
    width=SIDES,
    factor=st.integers(2, 300),
    bits=st.sampled_from([1, 8, 9, 12, 14, 16]),
    lies=st.sampled_from(["as it is", "upside down", "on its side", "in colour", "big endian"]),
)
def test_block_means_do_not_depend_on_the_width_of_the_sums(height, width, factor, bits, lies):
    grey = noise(height, width, bits=bits)
    view = {
        "as it is": grey,
        "upside down": grey[::-1],
        "on its side": grey.T,
        "in colour": np.stack([grey] * 3, axis=-1)[..., 1],
        "big endian": grey.astype(grey.dtype.newbyteorder(">")),
    }[lies]
    np.testing.assert_allclose(block_means(view, factor), plain_means(view, factor), rtol=1e-6)


@given(height=SIDES, width=SIDES, factor=st.sampled_from([2, 4, 8]), bits=st.sampled_from([8, 12, 14, 16]))
def test_block_means_of_whole_blocks_are_exact_where_float_can_say_them(height, width, factor, bits):
    grey = noise(height * factor, width * factor, bits=bits)
    np.testing.assert_array_equal(block_means(grey, factor), plain_means(grey, factor))


def test_values_just_above_and_below_what_sixteen_bits_hold_are_summed_alike():
    for top in (16383, 16384, 4095, 4096, 65535):
        grey = np.full((64, 64), top, np.uint16)
        np.testing.assert_array_equal(block_means(grey, 4), np.full((16, 16), top, np.float32))


@settings(max_examples=300)
@given(
    grey=arrays(
        np.float32,
        st.tuples(st.integers(1, 60), st.integers(1, 60)),
        elements=st.one_of(st.integers(0, 3), st.floats(0, 65535, width=32)),
    ),
    percentiles=st.tuples(st.floats(0, 100), st.floats(0, 100)).map(sorted),
)
def test_tails_are_percentiles(grey, percentiles):
    np.testing.assert_allclose(
        tails(grey, *percentiles), np.percentile(grey, percentiles), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("shape", [(387, 392), (61, 61 * 5), (1, 5000)])
@pytest.mark.parametrize("order", ["as drawn", "sorted", "falling", "sampled apart"])
def test_tails_do_not_depend_on_what_is_in_the_sample(shape, order):
    grey = np.random.default_rng(3).normal(1000, 200, shape).astype(np.float32)
    values = np.sort(grey, axis=None)
    if order == "falling":
        values = values[::-1]
    elif order == "sampled apart":  # all that is sampled is larger than all that is not
        sampled = np.arange(values.size) % 61 == 0
        apart = np.empty_like(values)
        apart[~sampled], apart[sampled] = values[: (~sampled).sum()], values[(~sampled).sum() :]
        values = apart
    grey = grey if order == "as drawn" else values.reshape(shape)
    for window in ((0.5, 99.5), (0, 100), (10, 90)):
        np.testing.assert_allclose(tails(grey, *window), np.percentile(grey, window), rtol=1e-6)


@given(height=SIDES, width=SIDES, cell=st.integers(1, 12))
def test_cells_of_the_silhouette_are_means(height, width, cell):
    picture = noise(height, width)
    rows, columns = max(1, height // cell), max(1, width // cell)
    expected = plain_means(picture[: rows * cell, : columns * cell], cell)
    np.testing.assert_allclose(_cell_means(picture, cell), expected, rtol=1e-6)


# --- from files to grey values ---


@given(
    height=SIDES,
    width=SIDES,
    mode=st.sampled_from(["L", "LA", "RGB", "RGBA", "I;16"]),
    transparency=st.sampled_from([None, 3]),
)
def test_png_by_libpng_is_png_by_pillow(height, width, mode, transparency):
    grey = noise(height, width, bits=16 if mode == "I;16" else 8)
    if mode == "I;16":
        picture = Image.fromarray(grey)
    else:
        picture = Image.fromarray(corpus.coloured(grey)).convert(mode)
        if mode.endswith("A"):
            picture.putalpha(Image.fromarray(grey[::-1]))
    options = {}
    if transparency is not None and mode in ("L", "RGB"):
        options["transparency"] = transparency if mode == "L" else (transparency,) * 3
    data = corpus.save(picture, "PNG", **options)
    np.testing.assert_array_equal(read_png(data, CONTRACT, LIMITS).channels, read_any_png(data).channels)


def test_png_that_libpng_warns_about_is_read_in_silence(capfd):
    rows = [b"\0" + row.tobytes() for row in np.repeat(corpus.mouse(), 2, axis=0)]
    data = corpus.png_of_rows(rows, corpus.mouse().shape)  # twice as many rows as its header has
    assert read_png(data, CONTRACT, LIMITS).height == 120
    assert capfd.readouterr() == ("", "")


def by_pillow(data):
    from PIL.BmpImagePlugin import BmpImageFile

    with BmpImageFile(BytesIO(data)) as picture:
        return grey_plane(picture)


def top_down(data):
    """The same BMP, said to begin with its upper row: it is upside down now."""
    height = int.from_bytes(data[22:26], "little")
    return data[:22] + (-height).to_bytes(4, "little", signed=True) + data[26:]


@given(
    height=SIDES,
    width=SIDES,
    palette=st.sampled_from(["greys", "greys but one", "falling greys", "few"]),
    flip=st.booleans(),
)
def test_bmp_where_it_lies_is_bmp_by_pillow(height, width, palette, flip):
    picture = Image.fromarray(noise(height, width))
    if palette != "greys":
        greys = np.repeat(np.arange(256, dtype=np.uint8), 3)
        greys = {"greys but one": np.where(np.arange(768) == 99, 0, greys), "falling greys": greys[::-1]}.get(
            palette, greys[:300]
        )
        picture = Image.frombytes(
            "P", picture.size, np.minimum(noise(height, width), len(greys) // 3 - 1).tobytes()
        )
        picture.putpalette(greys.astype(np.uint8).tobytes())
    data = corpus.save(picture, "BMP")
    data = top_down(data) if flip else data
    np.testing.assert_array_equal(bmp.read_bmp(data, CONTRACT, LIMITS).channels, by_pillow(data).channels)


@given(
    height=SIDES,
    width=SIDES,
    dtype=st.sampled_from(["u1", "u2", "i2", "f4"]),
    byteorder=st.sampled_from("<>"),
    kind=st.sampled_from(["minisblack", "miniswhite", "rgb", "planes"]),
    strip=st.sampled_from([None, 1, 7]),
)
def test_tiff_where_it_lies_is_what_tifffile_reads(height, width, dtype, byteorder, kind, strip):
    shape = {"rgb": (height, width, 3), "planes": (3, height, width)}.get(kind, (height, width))
    pixels = np.random.default_rng(height).integers(0, 100, shape).astype(dtype)
    colour = {"photometric": "rgb", "planarconfig": "separate" if kind == "planes" else "contig"}
    options = colour if len(shape) == 3 else {"photometric": kind}
    data = corpus.tiff(pixels, byteorder=byteorder, rowsperstrip=strip, **options)
    ours = tiff.read_tiff(data, CONTRACT, LIMITS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tifffile.TiffPage.is_final", False)
        patch.setattr(tiff, "_view", None)
        theirs = tiff.read_tiff(data, CONTRACT, LIMITS)
    assert ours.white_is_zero == theirs.white_is_zero
    np.testing.assert_array_equal(ours.channels, theirs.channels)


@settings(max_examples=60)
@given(
    height=st.integers(2, 400),
    width=st.integers(2, 400),
    bits=st.sampled_from([8, 10, 12, 14, 16]),
    photometric=st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
    syntax=st.sampled_from(corpus.NATIVE_SYNTAXES),
    signed=st.booleans(),
)
def test_a_dicom_file_becomes_what_the_plain_way_makes_of_its_pixels(
    height, width, bits, photometric, syntax, signed
):
    """From the bytes to the model's picture, with every fast path on the way taken out."""
    grey = noise(height, width, bits=bits)
    data = corpus.dicom(
        pixels=grey,
        bits=8 if bits == 8 else 16,
        stored=bits,
        photometric=photometric,
        syntax=syntax,
        signed=signed,
    )
    ours = decode(data, CONTRACT, LIMITS).image
    values = grey ^ np.asarray(1 << (bits - 1), grey.dtype) if signed else grey
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "block_means", lambda *of: plain_means(*of).astype(np.float32))
        patch.setattr(prepare, "tails", lambda grey, *window: np.percentile(grey, window).tolist())
        plain = prepare.prepare(Plane((values,), width, height, photometric == "MONOCHROME1"), CONTRACT)
    assert np.abs(ours.astype(int) - plain).max() <= 1
