"""DICOM in every kind: what is read equals what another library wrote, by the same contract.

Each case gives a file and the grey values that it holds; `shown` sends those through the contract alone.
"""

from __future__ import annotations

import bad_files
import corpus
import numpy as np
import pytest
from pictures import COLOUR, CONTRACT, DEEP, GREY, LIMITS, as_pillow_reads, assert_shows, shown

from mxbatch.engine.decode.radiograph import decode


@pytest.mark.parametrize("syntax", [*corpus.NATIVE_SYNTAXES, *corpus.LOSSLESS_SYNTAXES])
@pytest.mark.parametrize("grey", [GREY, DEEP], ids=["uint8", "uint16"])
def test_dicom_without_loss_gives_its_grey_values(syntax, grey):
    assert_shows(corpus.dicom(pixels=grey, bits=8 * grey.itemsize, syntax=syntax), grey, form="dicom")


@pytest.mark.parametrize("syntax", corpus.LOSSY_SYNTAXES)
def test_dicom_with_loss_comes_close(syntax):
    stored = 8 if syntax == corpus.JPEG_BASELINE else 12
    grey = corpus.mouse(bits=stored)
    data = corpus.dicom(pixels=grey, bits=8 * grey.itemsize, stored=stored, syntax=syntax)
    assert np.abs(decode(data, CONTRACT, LIMITS).image.astype(int) - shown(grey)).mean() < 3


@pytest.mark.parametrize(
    "syntax", [*corpus.NATIVE_SYNTAXES, corpus.RLE, corpus.JPEG_2000_LOSSLESS, corpus.JPEG_LS]
)
def test_dicom_in_colour_becomes_luma(syntax):
    data = corpus.dicom(pixels=COLOUR, bits=8, photometric="RGB", syntax=syntax)
    assert_shows(data, COLOUR, form="dicom")


def test_dicom_jpeg_that_is_stored_as_rgb_without_saying_so_is_not_taken_for_ycbcr():
    adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0"
    stream = corpus.jpeg(mode="RGB", keep_rgb=True)
    assert adobe in stream
    silent = bytearray(stream.replace(adobe, b""))
    at = silent.index(b"\xff\xc0") + 10
    silent[at : at + 9 : 3] = b"\1\2\3"  # the components' names, RGB until now
    at = silent.index(b"\xff\xda") + 5
    silent[at : at + 6 : 2] = b"\1\2\3"
    data = corpus.dicom(
        pixels=COLOUR,
        bits=8,
        photometric="RGB",
        syntax=corpus.JPEG_BASELINE,
        PixelData=corpus.items(bytes(silent)),
    )
    assert_shows(data, as_pillow_reads(stream), form="dicom", within=2)


def test_dicom_big_endian_bytes_in_words_are_swapped():
    swapped = GREY.reshape(-1, 2)[:, ::-1].tobytes()
    data = corpus.dicom(pixels=GREY, bits=8, syntax=corpus.BIG_ENDIAN)
    at = data.index(b"\x7f\xe0\0\x10OB") + 4
    words = data[:at] + b"OW" + data[at + 2 : at + 8] + swapped
    assert_shows(words, GREY, form="dicom")


def test_dicom_in_planes_of_colour_becomes_luma():
    planes = np.ascontiguousarray(np.moveaxis(COLOUR, -1, 0)).tobytes()
    data = corpus.dicom(pixels=COLOUR, bits=8, photometric="RGB", PlanarConfiguration=1, PixelData=planes)
    assert_shows(data, COLOUR, form="dicom")


def test_dicom_in_ybr_shows_its_first_component():
    data = corpus.dicom(pixels=COLOUR, bits=8, photometric="YBR_FULL")
    assert_shows(data, COLOUR[..., 0], form="dicom")
    halved = np.zeros((*GREY.shape, 2), np.uint8)
    pairs = halved.reshape(-1, 4)
    pairs[:, :2], pairs[:, 2:] = GREY.reshape(-1, 2), (90, 160)
    data = corpus.dicom(pixels=COLOUR, bits=8, photometric="YBR_FULL_422", PixelData=halved.tobytes())
    assert_shows(data, GREY, form="dicom")


def test_dicom_monochrome1_is_inverted_in_native_and_compressed_files():
    for syntax in (corpus.EXPLICIT, corpus.JPEG_LS):
        data = corpus.dicom(pixels=DEEP, photometric="MONOCHROME1", syntax=syntax)
        assert_shows(data, DEEP, form="dicom", white_is_zero=True)
    data = corpus.dicom(pixels=GREY, bits=8, photometric="MONOCHROME1", syntax=corpus.JPEG_BASELINE)
    upright = decode(corpus.dicom(pixels=GREY, bits=8, syntax=corpus.JPEG_BASELINE), CONTRACT, LIMITS).image
    rows = slice(25, 102)  # between the padding
    np.testing.assert_array_equal(decode(data, CONTRACT, LIMITS).image[rows], 255 - upright[rows])


def test_dicom_bits_that_are_not_stored_are_ignored():
    grey = corpus.mouse(bits=12)
    junk = grey | (np.random.default_rng(3).integers(0, 16, grey.shape).astype(np.uint16) << 12)
    assert_shows(corpus.dicom(pixels=junk, bits=16, stored=12), grey, form="dicom")


@pytest.mark.parametrize("syntax", [corpus.EXPLICIT, corpus.BIG_ENDIAN, corpus.RLE])
@pytest.mark.parametrize("extended", [True, False], ids=["sign-extended", "bare"])
def test_dicom_signed_pixels_keep_their_order(syntax, extended):
    values = corpus.mouse(bits=12).astype(np.int16) - 2048
    stored = values if extended else values & 0x0FFF
    data = corpus.dicom(pixels=stored, stored=12, signed=True, syntax=syntax)
    assert_shows(data, values, form="dicom", within=1)


def test_dicom_jpeg_2000_is_believed_about_its_own_precision():
    """Some archives declare signed pixels over an unsigned codestream: they mean the pattern of bits."""
    values = corpus.mouse(bits=13).astype(np.int16) - 4096
    pattern = values.astype(np.uint16) & 0x1FFF
    stream = pytest.importorskip("imagecodecs").jpeg2k_encode(
        pattern, level=0, codecformat="j2k", reversible=True, bitspersample=13
    )
    data = corpus.dicom(
        pixels=pattern,
        stored=13,
        signed=True,
        syntax=corpus.JPEG_2000_LOSSLESS,
        PixelData=corpus.items(stream),
    )
    assert_shows(data, values, form="dicom", within=1)


@pytest.mark.parametrize("bits", [32, 64])
def test_dicom_of_wide_integers_is_read(bits):
    grey = GREY.astype(f"u{bits // 8}") * 70_001
    assert_shows(corpus.dicom(pixels=grey, bits=bits), grey, form="dicom")


@pytest.mark.parametrize(("keyword", "dtype"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")])
def test_dicom_of_floating_point_is_read(keyword, dtype):
    values = (GREY / 7).astype(dtype)
    data = corpus.dicom(pixels=GREY, bits=8 * values.itemsize, PixelData=None, **{keyword: values.tobytes()})
    assert_shows(data, values, form="dicom")


def test_dicom_of_one_bit_is_read():
    mask = GREY > 120
    packed = np.packbits(mask, bitorder="little").tobytes()
    data = corpus.dicom(pixels=GREY, bits=1, PixelData=packed)
    assert_shows(data, mask.astype(np.uint8), form="dicom")


@pytest.mark.parametrize("syntax", [corpus.EXPLICIT, corpus.BIG_ENDIAN, corpus.RLE])
def test_dicom_with_a_palette_is_resolved_and_values_outside_it_take_its_ends(syntax):
    tables = np.random.default_rng(2).integers(0, 65536, (3, 100)).astype(np.uint16)
    order = ">u2" if syntax == corpus.BIG_ENDIAN else "<u2"
    elements = {}
    for name, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [100, 50, 16]
        elements[f"{name}PaletteColorLookupTableData"] = table.astype(order).tobytes()
    data = corpus.dicom(pixels=GREY, bits=8, photometric="PALETTE COLOR", syntax=syntax, **elements)
    resolved = np.moveaxis(tables[:, np.clip(GREY.astype(int) - 50, 0, 99)], 0, -1)
    assert_shows(data, resolved, form="dicom", within=1)


@pytest.mark.parametrize("syntax", [corpus.EXPLICIT, corpus.RLE, corpus.JPEG_LS, corpus.JPEG_2000_LOSSLESS])
def test_dicom_of_several_frames_shows_the_first(syntax):
    assert_shows(corpus.dicom(pixels=DEEP, frames=3, syntax=syntax), DEEP, form="dicom")


@pytest.mark.parametrize("offsets", [True, False], ids=["offset table", "no table"])
def test_dicom_frames_in_several_fragments_are_joined(offsets):
    from pydicom.encaps import encapsulate

    streams = [corpus.codestream(pixels, corpus.JPEG_LS) for pixels in (DEEP, DEEP[::-1].copy())]
    pixel_data = encapsulate(streams, fragments_per_frame=3, has_bot=offsets)
    data = corpus.dicom(pixels=DEEP, frames=2, syntax=corpus.JPEG_LS, PixelData=pixel_data)
    assert_shows(data, DEEP, form="dicom")


@pytest.mark.parametrize("syntax", corpus.NATIVE_SYNTAXES[:2])
def test_dicom_without_preamble_and_without_file_meta_is_recognised(syntax):
    data = corpus.dicom(pixels=DEEP, syntax=syntax)
    assert_shows(data[132:], DEEP, form="dicom")
    assert_shows(corpus.without_meta(data), DEEP, form="dicom")


def test_dicom_big_endian_without_file_meta_is_recognised():
    assert_shows(corpus.without_meta(corpus.dicom(pixels=DEEP, syntax=corpus.BIG_ENDIAN)), DEEP, form="dicom")


def test_dicom_with_deeply_nested_sequences_is_read():
    assert decode(bad_files.deep_nesting_dicom(5000), CONTRACT, LIMITS).width == 8
