"""A file that was cut short, changed or contradicts itself is refused with the code that says so, never scored."""

from __future__ import annotations

import struct
import zlib

import bad_files
import corpus
import numpy as np
import pytest
from whole_files import CONTRACT, LIMITS, WHOLE, code_of

from mxbatch.engine.decode.png import inflated_bytes
from mxbatch.engine.decode.radiograph import FORMATS, decode
from mxbatch.engine.errors import RadiographError

# --- truncation ---


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_that_ends_early_is_refused_at_every_length(name):
    whole = WHOLE[name]
    assert code_of(whole) is None
    lengths = {
        *range(0, len(whole), max(1, len(whole) // 70)),
        *(len(whole) - back for back in (1, 2, 3, 4, 8, 13)),
    }
    if whole[-1:] == b"\0" and name.endswith(corpus.DEFLATED):
        lengths.discard(len(whole) - 1)  # its last byte only makes the length even
    scored = [length for length in sorted(lengths) if code_of(whole[:length]) is None]
    assert not scored


@pytest.mark.parametrize("name", ["jpeg", "png", "bmp", "tiff", "dicom 1.2.840.10008.1.2.1"])
def test_half_a_file_is_called_truncated_and_not_corrupt(name):
    family = FORMATS[name.split()[0]].family
    assert code_of(WHOLE[name][: len(WHOLE[name]) // 2]) == f"MX-D{family}01"


@pytest.mark.parametrize(
    "syntax", [corpus.RLE, corpus.JPEG_EXTENDED, corpus.JPEG_LOSSLESS, corpus.JPEG_LS, corpus.JPEG_2000]
)
def test_a_frame_that_ends_early_within_a_whole_dicom_file_is_refused(syntax):
    """The walls of the file are intact, so only the codestream's decoder can tell."""
    stream = corpus.codestream(corpus.mouse(bits=12), syntax)
    for share in (0.02, 0.3, 0.5, 0.9, 0.99):
        cut = stream[: int(len(stream) * share) // 2 * 2]
        data = corpus.dicom(stored=12, syntax=syntax, PixelData=corpus.items(cut))
        assert code_of(data) in ("MX-D501", "MX-D502")


def test_a_frame_whose_encapsulation_has_no_end_is_truncated():
    whole = WHOLE[f"dicom {corpus.JPEG_LS}"]
    assert whole[-8:] == b"\xfe\xff\xdd\xe0\0\0\0\0"
    assert code_of(whole[:-8]) == "MX-D501"


# --- damage ---


@pytest.mark.parametrize("name", bad_files.PLANTED)
def test_planted_files_are_refused_with_the_promised_code(name):
    with pytest.raises(RadiographError) as error:
        decode(bad_files.PLANTED[name](), CONTRACT, LIMITS)
    assert error.value.code == bad_files.PLANTED_CODES[name]
    assert "\n" not in str(error.value)


def test_a_png_whose_pixels_changed_is_refused_although_they_still_inflate():
    header = struct.pack(">IIBBBBB", 50, 40, 8, 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in corpus.mouse(40, 50))
    stored = zlib.compress(rows, 0)  # not compressed, so a changed byte is a changed pixel

    def chunk(name, body, checksum=None):
        checksum = zlib.crc32(name + body) if checksum is None else checksum
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)

    def picture(body):
        start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
        return start + chunk(b"IDAT", body, zlib.crc32(b"IDAT" + stored)) + chunk(b"IEND", b"")

    changed = bytearray(stored)
    changed[500] ^= 0x80
    assert code_of(picture(stored)) is None
    assert code_of(picture(bytes(changed))) == "MX-D202"


@pytest.mark.parametrize("rows", [0, 1, 39])
def test_a_png_whose_rows_are_missing_within_whole_chunks_is_refused(rows):
    """Pillow gives the missing rows as black."""
    lines = [b"\0" + row.tobytes() for row in corpus.mouse(40, 50)]
    assert code_of(corpus.png_of_rows(lines, (40, 50))) is None
    assert code_of(corpus.png_of_rows(lines[:rows], (40, 50))) == "MX-D202"


def _adam7(grey):
    """Filtered rows of the seven passes (PNG, third edition, 8.2)."""
    passes = ["::8 ::8", "::8 4::8", "4::8 ::4", "::4 2::4", "2::4 ::2", "::2 1::2", "1::2 ::1"]
    parts = [
        grey[tuple(slice(*(int(n) if n else None for n in axis.split(":"))) for axis in p.split())]
        for p in passes
    ]
    return [b"\0" + row.tobytes() for part in parts if part.size for row in part]


@pytest.mark.parametrize("shape", [(40, 50), (5, 3), (1, 1), (8, 1)])
def test_an_interlaced_png_whose_last_row_is_missing_is_refused(shape):
    grey = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    lines = _adam7(grey)
    assert inflated_bytes(shape[1], shape[0], 8, interlaced=True) == sum(map(len, lines))
    assert code_of(corpus.png_of_rows(lines[:-1], shape, interlaced=True)) == "MX-D202"
    if shape == (40, 50):
        assert code_of(corpus.png_of_rows(lines, shape, interlaced=True)) is None


@pytest.mark.parametrize("mode", ["1", "P", "RGB"])
@pytest.mark.parametrize("missing", [1, 300, "all"])
def test_a_png_of_any_colour_type_whose_picture_is_short_is_refused(mode, missing):
    whole = corpus.png(mode=mode)
    assert code_of(bad_files.png_cut_short(whole, 0)) is None
    assert code_of(bad_files.png_cut_short(whole, missing)) == "MX-D202"


def test_a_jpeg_that_libjpeg_only_warns_about_is_corrupt():
    data = corpus.jpeg(restart_marker_rows=1)
    markers = [at for at in range(len(data) - 1) if data[at] == 0xFF and 0xD0 <= data[at + 1] <= 0xD7]
    broken = bytearray(data)
    broken[markers[3] + 1] = 0xD0 + (data[markers[3] + 1] + 3) % 8
    assert code_of(bytes(broken)) == "MX-D102"


def test_a_jpeg_of_countless_scans_is_refused_before_they_are_decoded():
    data = corpus.jpeg(progressive=True)
    last = data.rindex(b"\xff\xda")
    assert code_of(data[:-2] + data[last:-2] * 200 + data[-2:]) == "MX-D102"


def test_damaged_jpeg_never_reaches_the_second_path(monkeypatch):
    def unreachable(data):
        raise AssertionError("a damaged file came to Pillow")

    monkeypatch.setattr("mxbatch.engine.decode.jpeg._second_path", unreachable)
    whole = corpus.jpeg(mode="RGB", subsampling=0)
    for length in range(2, len(whole), 97):
        assert code_of(whole[:length]) in ("MX-D101", "MX-D102", "MX-D005")


def test_jpeg_on_the_second_path_is_refused_at_every_length_but_the_whole():
    whole = corpus.odd_jpeg()
    assert code_of(whole) is None
    assert {code_of(whole[:length]) for length in range(3, len(whole))} <= {"MX-D101", "MX-D102"}


@pytest.mark.parametrize(
    ("elements", "code"),
    [
        ({"Rows": 400}, "MX-D501"),
        ({"Rows": 0}, "MX-D502"),
        ({"Rows": None}, "MX-D502"),
        ({"PixelData": None}, "MX-D501"),
        ({"PixelData": None, "Rows": None, "Columns": None}, "MX-D506"),
        ({"BitsAllocated": 12}, "MX-D505"),
        ({"SamplesPerPixel": 4}, "MX-D505"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "MX-D505"),
        ({"NumberOfFrames": 9}, None),
        ({"BitsStored": 0}, None),
        ({"PhotometricInterpretation": ""}, None),
    ],
    ids=str,
)
def test_a_dicom_header_that_does_not_fit_its_pixels_is_refused_or_harmless(elements, code):
    assert code_of(corpus.dicom(**elements)) == code


@pytest.mark.parametrize(
    "syntax", [corpus.JPEG_BASELINE, corpus.JPEG_LS, corpus.JPEG_LOSSLESS, corpus.JPEG_2000]
)
def test_a_dicom_header_that_contradicts_its_codestream_is_corrupt(syntax):
    assert code_of(corpus.dicom(bits=8, syntax=syntax, Rows=121)) == "MX-D502"


def test_an_unknown_transfer_syntax_is_named():
    mpeg = "1.2.840.10008.1.2.4.102"
    with pytest.raises(RadiographError, match=mpeg) as error:
        decode(corpus.dicom(syntax=mpeg), CONTRACT, LIMITS)
    assert error.value.code == "MX-D505"


def test_a_deflated_data_set_without_its_end_is_truncated():
    whole = WHOLE[f"dicom {corpus.DEFLATED}"]
    assert code_of(whole[:-5]) == "MX-D501"
