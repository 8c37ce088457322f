"""Every format in every kind: what is read equals what another library wrote, by the same contract.

Each case gives a file and the grey values that it holds; `shown` sends those through the contract alone.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import corpus
import numpy as np
import pytest
from PIL import Image

from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.plane import Plane, channels_of
from mxbatch.engine.decode.prepare import prepare
from mxbatch.engine.decode.radiograph import FORMATS, decode
from mxbatch.engine.decode.sniff import HEAD_BYTES, looks_like_text, sniff

CONTRACT, LIMITS = InputContract(size=128, window=(0, 100)), Limits()
GREY, DEEP = corpus.mouse(), corpus.mouse(bits=16)
COLOUR = corpus.coloured(GREY)


def shown(grey, *, white_is_zero=False):
    """The contract, applied to grey values or to `[H, W, 3]` that never were in a file."""
    samples = [grey] if grey.ndim == 2 else list(np.moveaxis(grey, -1, 0))
    return prepare(Plane(channels_of(samples), grey.shape[1], grey.shape[0], white_is_zero), CONTRACT)


def assert_shows(data, grey, *, form, within=0, **options):
    decoded = decode(data, CONTRACT, LIMITS)
    assert (decoded.format, decoded.width, decoded.height) == (form, grey.shape[1], grey.shape[0])
    difference = np.abs(decoded.image.astype(int) - shown(grey, **options))
    assert difference.max() <= within


def luma(picture):
    return np.asarray(picture.convert("L"))


def as_pillow_reads(data):
    with Image.open(BytesIO(data)) as picture:
        return luma(picture)


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


# --- DICOM ---


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
    assert decode(corpus.deep_nesting_dicom(5000), CONTRACT, LIMITS).width == 8


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
