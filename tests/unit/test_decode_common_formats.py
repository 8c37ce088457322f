"""JPEG, PNG, BMP and TIFF in every kind: what is read equals what another library wrote, by the same contract.

Each case gives a file and the grey values that it holds; `shown` sends those through the contract alone. At the end,
what holds for all formats: how they are told apart, and that threads may decode them at once.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import corpus
import numpy as np
import pytest
from pictures import COLOUR, CONTRACT, DEEP, GREY, LIMITS, as_pillow_reads, assert_shows, luma, shown
from PIL import Image

from mxbatch.engine.decode.radiograph import FORMATS, decode
from mxbatch.engine.decode.sniff import HEAD_BYTES, looks_like_text, sniff

# --- JPEG ---


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"mode": "RGB"},
        {"mode": "RGB", "subsampling": 0},
        {"mode": "RGB", "subsampling": 1, "progressive": True},
        {"restart_marker_rows": 1},
    ],
    ids=str,
)
def test_jpeg_gives_its_luma(options):
    data = corpus.jpeg(**options)
    with Image.open(BytesIO(data)) as picture:
        picture.draft("L", picture.size)
        assert_shows(data, luma(picture), form="jpeg")


@pytest.mark.parametrize("options", [{"mode": "CMYK"}, {"mode": "RGB", "keep_rgb": True}], ids=str)
def test_jpeg_in_other_colour_spaces_becomes_luma(options):
    data = corpus.jpeg(**options)
    assert_shows(data, as_pillow_reads(data), form="jpeg", within=2)


def test_jpeg_with_chroma_sampled_in_an_odd_way_takes_the_second_path():
    assert_shows(corpus.odd_jpeg(48, 96), as_pillow_reads(corpus.jpeg(48, 96)), form="jpeg")


def test_jpeg_of_twelve_bits_and_lossless_jpeg_keep_their_depth():
    imagecodecs = pytest.importorskip("imagecodecs")
    deep = corpus.mouse(bits=12)
    assert_shows(imagecodecs.jpeg8_encode(deep, level=100, bitspersample=12), deep, form="jpeg", within=1)
    assert_shows(imagecodecs.ljpeg_encode(DEEP), DEEP, form="jpeg")


def test_jpeg_ignores_rotation_flags():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert_shows(corpus.jpeg(exif=exif), as_pillow_reads(corpus.jpeg()), form="jpeg")


def test_jpeg_may_be_followed_by_junk():
    assert_shows(corpus.jpeg() + b"junk" * 9, as_pillow_reads(corpus.jpeg()), form="jpeg")


# --- PNG and BMP ---


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_png_of_eight_bits_and_less_becomes_luma(mode):
    data = corpus.png(mode=mode)
    assert_shows(data, as_pillow_reads(data), form="png")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_png_with_a_packed_palette_is_resolved(bits):
    picture = Image.fromarray(COLOUR).quantize(2**bits)
    assert_shows(corpus.save(picture, "PNG", bits=bits), luma(picture.convert("RGB")), form="png", within=1)


def test_png_of_sixteen_bits_keeps_them():
    faint = DEEP // 256 + 30_000  # a range of grey that eight bits would flatten to one or two levels
    assert_shows(corpus.save(Image.fromarray(faint), "PNG"), faint, form="png")


def test_png_drops_alpha_instead_of_blending_it():
    alpha = Image.fromarray(np.roll(GREY, 40, axis=1))
    grey, colour = Image.fromarray(GREY), Image.fromarray(COLOUR)
    colour.putalpha(alpha)
    grey.putalpha(alpha)
    assert_shows(corpus.save(grey, "PNG"), GREY, form="png")
    assert_shows(corpus.save(colour, "PNG"), luma(Image.fromarray(COLOUR)), form="png")


@pytest.mark.parametrize("transparency", [0, bytes(range(200))])
def test_png_with_a_transparent_palette_is_read_without_a_warning(transparency):
    picture = Image.fromarray(COLOUR).quantize(200)
    data = corpus.save(picture, "PNG", transparency=transparency)
    assert_shows(data, luma(picture.convert("RGB")), form="png", within=1)


def test_png_that_is_interlaced_is_read():
    """Adam7, written by hand: seven passes over the same picture."""
    passes = [
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ]
    rows = [b"\0" + row.tobytes() for y, x, dy, dx in passes for row in GREY[y::dy, x::dx]]
    assert_shows(corpus.png_of_rows(rows, GREY.shape, interlaced=True), GREY, form="png")


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_bmp_becomes_luma(mode):
    data = corpus.bmp(mode=mode)
    assert_shows(data, as_pillow_reads(data), form="bmp")


def test_bmp_in_run_length_encoding_is_read():
    assert_shows(corpus.bmp_run_length(GREY), GREY, form="bmp")


# --- TIFF ---


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"bigtiff": True},
        {"rowsperstrip": 16},
        {"tile": (32, 48)},
        *({"compression": name} for name in ("lzw", "zlib", "packbits", "zstd", "jpeg2000")),
        {"compression": "zlib", "predictor": True, "tile": (64, 64)},
    ],
    ids=str,
)
@pytest.mark.parametrize("grey", [GREY, DEEP], ids=["uint8", "uint16"])
def test_tiff_gives_its_grey_values(grey, options):
    assert_shows(corpus.tiff(grey, **options), grey, form="tiff")


@pytest.mark.parametrize("dtype", ["i1", "i2", "u4", "f4", "f8"])
def test_tiff_of_other_numbers_keeps_their_order(dtype):
    values = (GREY.astype(int) // 2 - (50 if dtype[0] != "u" else 0)).astype(dtype)
    assert_shows(corpus.tiff(values), values, form="tiff")


def test_tiff_of_one_bit_is_read():
    assert_shows(
        corpus.tiff(GREY > 120, photometric="minisblack"), (GREY > 120).astype(np.uint8), form="tiff"
    )


def test_tiff_whose_zero_is_white_is_inverted():
    assert_shows(corpus.tiff(DEEP, photometric="miniswhite"), DEEP, form="tiff", white_is_zero=True)


@pytest.mark.parametrize("scale", [1, 257], ids=["uint8", "uint16"])
def test_tiff_in_colour_becomes_luma_in_pixels_and_in_planes(scale):
    colour = COLOUR.astype(np.uint8 if scale == 1 else np.uint16) * scale
    assert_shows(corpus.tiff(colour, photometric="rgb"), colour, form="tiff")
    planes = np.ascontiguousarray(np.moveaxis(colour, -1, 0))
    assert_shows(corpus.tiff(planes, photometric="rgb", planarconfig="separate"), colour, form="tiff")
    alpha = np.dstack([colour, np.roll(colour[..., :1], 9, axis=0)])
    assert_shows(corpus.tiff(alpha, photometric="rgb", extrasamples=["unassalpha"]), colour, form="tiff")


def test_tiff_with_a_palette_is_resolved():
    colormap = np.random.default_rng(1).integers(0, 65536, (3, 256)).astype(np.uint16)
    resolved = np.moveaxis(colormap[:, GREY], 0, -1)
    assert_shows(corpus.tiff(GREY, photometric="palette", colormap=colormap), resolved, form="tiff", within=1)


@pytest.mark.parametrize(
    ("grey", "space", "photometric"),
    [(GREY, "minisblack", "minisblack"), (COLOUR, "rgb", "rgb"), (COLOUR, "ycbcr", "rgb")],
)
def test_tiff_with_jpeg_inside_is_read(grey, space, photometric):
    options = {"level": 98, "outcolorspace": space}
    data = corpus.tiff(grey, photometric=photometric, compression="jpeg", compressionargs=options)
    decoded = decode(data, CONTRACT, LIMITS)
    assert np.abs(decoded.image.astype(int) - shown(grey)).mean() < 3


def test_tiff_of_several_pages_shows_the_largest():
    import tifffile

    out = BytesIO()
    with tifffile.TiffWriter(out) as writer:
        for page in (GREY[:40, :50], DEEP, GREY[:, :70]):
            writer.write(page)
    assert_shows(out.getvalue(), DEEP, form="tiff")


# --- telling them apart ---


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (corpus.jpeg(), "jpeg"),
        (corpus.png(), "png"),
        (corpus.bmp(), "bmp"),
        (corpus.tiff(), "tiff"),
        (corpus.tiff(byteorder=">", bigtiff=True), "tiff"),
        (corpus.dicom(), "dicom"),
        (b"II*\0" + corpus.dicom()[4:], "dicom"),  # a preamble may pose as a TIFF
        (b"BMW is a car, not a bitmap", None),
        (b"GIF89a" + bytes(90), None),
        (bytes(300), None),
        (b"", None),
    ],
)
def test_formats_are_told_by_their_first_bytes(data, name):
    assert sniff(data[:HEAD_BYTES]) == name
    assert name is None or name in FORMATS


@pytest.mark.parametrize(
    ("head", "text"),
    [
        (b"<html>", True),
        ("Röntgen; Maus\r\n\t1".encode(), True),
        ("µ".encode()[:1], False),
        (b"a" * 511 + "é".encode()[:1], True),
        ("Röntgen".encode("utf-16"), True),
        (b"\0\1\2\3", False),
        (b"", False),
    ],
)
def test_text_is_told_from_pictures(head, text):
    assert looks_like_text(head) is text


def test_threads_decode_the_same_pictures_at_once_as_one_after_another():
    files = [
        corpus.jpeg(300, 500, mode="RGB"),
        corpus.png(mode="RGBA"),
        corpus.tiff(compression="lzw"),
        corpus.dicom(),
        *(corpus.dicom(syntax=syntax) for syntax in corpus.LOSSLESS_SYNTAXES),
    ]
    alone = [decode(data, CONTRACT, LIMITS).image for data in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: decode(data, CONTRACT, LIMITS).image, files * 8))
    for index, image in enumerate(together):
        np.testing.assert_array_equal(image, alone[index % len(files)])
