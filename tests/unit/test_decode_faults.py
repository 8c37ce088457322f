"""Whatever the bytes are, `decode` gives a picture or a `RadiographError`: quickly and in little memory."""

from __future__ import annotations

import io
import os
import pickle
import socket
import struct
import tracemalloc
import zlib

import corpus
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.png import inflated_bytes
from mxbatch.engine.decode.radiograph import FORMATS, Decoded, decode, read_bytes
from mxbatch.engine.decode.sniff import HEAD_BYTES
from mxbatch.engine.errors import CODES, RadiographError

CONTRACT, LIMITS = InputContract(size=64), Limits()

WHOLE = {
    "jpeg": corpus.jpeg(),
    "jpeg colour": corpus.jpeg(mode="RGB"),
    "jpeg progressive": corpus.jpeg(progressive=True),
    "jpeg scaled": corpus.jpeg(600, 700),
    "png": corpus.png(),
    "png palette": corpus.png(mode="P"),
    "png 16 bit": corpus.png(mode="I;16"),
    "bmp": corpus.bmp(),
    "bmp colour": corpus.bmp(mode="RGB"),
    "bmp run-length": corpus.bmp_run_length(corpus.mouse(40, 50)),
    "tiff": corpus.tiff(),
    **{
        f"tiff {name}": corpus.tiff(compression=name)
        for name in ("lzw", "zlib", "packbits", "zstd", "jpeg2000")
    },
    "tiff jpeg": corpus.tiff(corpus.mouse(), compression="jpeg"),
    "tiff tiles": corpus.tiff(tile=(32, 32)),
    **{
        f"dicom {syntax}": corpus.dicom(syntax=syntax, bits=8 if syntax == corpus.JPEG_BASELINE else 16)
        for syntax in corpus.ALL_SYNTAXES
        if syntax != corpus.JPEG_EXTENDED
    },
    "dicom 12 bit": corpus.dicom(syntax=corpus.JPEG_EXTENDED, stored=12),
    "dicom without meta": corpus.without_meta(corpus.dicom()),
}


def code_of(data, contract=CONTRACT, limits=LIMITS):
    """The code under which `data` are refused, or None where they decode."""
    try:
        decoded = decode(data, contract, limits)
    except RadiographError as error:
        return CODES[error.code].code
    assert (decoded.image.shape, decoded.image.dtype) == ((contract.size, contract.size), np.uint8)
    return None


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


@pytest.mark.parametrize("name", corpus.PLANTED)
def test_planted_files_are_refused_with_the_promised_code(name):
    with pytest.raises(RadiographError) as error:
        decode(corpus.PLANTED[name](), CONTRACT, LIMITS)
    assert error.value.code == corpus.PLANTED_CODES[name]
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
    assert code_of(corpus.png_cut_short(whole, 0)) is None
    assert code_of(corpus.png_cut_short(whole, missing)) == "MX-D202"


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


# --- bombs ---


@pytest.mark.parametrize("name", corpus.HUGE)
def test_a_header_that_claims_65500_by_65500_costs_no_memory(name):
    data = corpus.HUGE[name]()
    code_of(data)  # imports are not the file's fault
    tracemalloc.start()
    try:
        assert code_of(data) == f"MX-D{FORMATS[name].family}03"
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "syntax", [*corpus.NATIVE_SYNTAXES, corpus.RLE, corpus.JPEG_BASELINE, corpus.JPEG_2000]
)
def test_a_huge_header_is_refused_in_every_way_of_writing_dicom(syntax):
    bits = 8 if syntax == corpus.JPEG_BASELINE else 16
    small = corpus.dicom(8, 8, syntax=syntax, bits=bits, Rows=65_500, Columns=65_500)
    assert code_of(small) == "MX-D503"


def test_a_deflate_bomb_is_cut_off_at_the_limit():
    data = corpus.deflate_bomb_dicom(100_000_000)
    tracemalloc.start()
    try:
        assert code_of(data, limits=Limits(max_inflated_bytes=8_000_000)) == "MX-D504"
        assert tracemalloc.get_traced_memory()[1] < 25_000_000
    finally:
        tracemalloc.stop()


def test_deep_pixels_count_against_the_inflated_bytes():
    assert code_of(WHOLE["tiff"], limits=Limits(max_inflated_bytes=40_000)) == "MX-D404"


def test_the_cap_on_pixels_is_ours_to_move_and_no_library_has_another():
    data = corpus.png(1000, 1000)
    assert code_of(data, limits=Limits(max_pixels=999_999)) == "MX-D203"
    assert code_of(data, limits=Limits(max_pixels=1_000_000)) is None


def test_a_tiff_of_endless_pages_is_refused():
    import tifffile

    out = corpus.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        for _ in range(300):
            writer.write(np.ones((2, 2), np.uint8), contiguous=False)
    assert code_of(out.getvalue()) == "MX-D405"


def test_a_tiff_whose_width_is_a_list_costs_no_memory():
    data = bytearray(corpus.tiff(byteorder="<"))
    first = struct.unpack_from("<I", data, 4)[0]
    assert struct.unpack_from("<H", data, first + 2)[0] == 256
    struct.pack_into("<I", data, first + 6, 500)  # how many widths there are
    struct.pack_into("<I", data, first + 14 + 8, 1_000_000)  # the length
    tracemalloc.start()
    try:
        assert code_of(bytes(data)) == "MX-D402"
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_a_tiff_whose_pages_run_in_a_circle_ends():
    data = bytearray(corpus.tiff(byteorder="<"))
    first = struct.unpack_from("<I", data, 4)[0]
    (count,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * count, first)
    assert code_of(bytes(data)) in (None, "MX-D402", "MX-D405")


def test_nesting_without_end_is_truncated_and_not_a_recursion_error():
    data = corpus.deep_nesting_dicom(50_000)
    assert code_of(data) is None
    assert code_of(data[: len(data) // 3]) == "MX-D501"


# --- anything at all ---


@settings(max_examples=250)
@given(name=st.sampled_from(sorted(WHOLE)), data=st.data())
def test_flipped_bits_give_a_picture_or_a_code(name, data):
    damaged = bytearray(WHOLE[name])
    # most of a file is picture data; the header is where a flip is dangerous
    places = st.one_of(st.integers(0, min(700, len(damaged) - 1)), st.integers(0, len(damaged) - 1))
    for at, bits in data.draw(st.lists(st.tuples(places, st.integers(1, 255)), min_size=1, max_size=5)):
        damaged[at] ^= bits
    code_of(bytes(damaged), limits=Limits(max_pixels=2_000_000, max_inflated_bytes=16_000_000))


@settings(max_examples=200)
@given(name=st.sampled_from(sorted(WHOLE)), tail=st.binary(max_size=600), keep=st.integers(0, 400))
def test_any_bytes_after_a_true_beginning_give_a_picture_or_a_code(name, tail, keep):
    code_of(WHOLE[name][:keep] + tail, limits=Limits(max_pixels=2_000_000, max_inflated_bytes=16_000_000))


@settings(max_examples=200)
@given(st.binary(max_size=600))
@example(b"\xff\xd8\xff")
@example(b"\x08\x00\x05\x00\xff\xff\xff\xff")
@example(b"II*\0\x08\0\0\0\xff\xff")
@example(b"BM" + bytes(12) + b"\x28\0\0\0")
def test_any_bytes_give_a_picture_or_a_code(data):
    code_of(data)


@pytest.mark.parametrize("where", ["png.picture_data", "radiograph.prepare"])
def test_want_of_memory_while_decoding_is_put_off_and_never_blamed_on_the_file(monkeypatch, where):
    def hungry(*_):
        raise MemoryError

    monkeypatch.setattr(f"mxbatch.engine.decode.{where}", hungry)
    code = code_of(WHOLE["png"])
    assert code == "MX-D001"
    assert CODES[code].transient


def test_the_reason_survives_the_way_between_processes():
    with pytest.raises(RadiographError) as error:
        decode(corpus.truncated_jpeg(), CONTRACT, LIMITS)
    again = pickle.loads(pickle.dumps(error.value))
    assert (str(again), again.code) == (str(error.value), "MX-D101")


# --- reading ---


def read_code(path, limits=LIMITS):
    with pytest.raises(RadiographError) as error:
        read_bytes(path, limits)
    assert error.value.path == path
    return error.value.code


def test_a_file_is_read_whole(tmp_path):
    (tmp_path / "x.jpg").write_bytes(WHOLE["jpeg"])
    data = read_bytes(tmp_path / "x.jpg", Limits(max_file_bytes=len(WHOLE["jpeg"])))
    assert isinstance(decode(data, CONTRACT, LIMITS), Decoded)


@pytest.mark.parametrize(
    ("start", "code"), [(b"GIF89a", "MX-D005"), (b"<html>" + b" " * HEAD_BYTES, "MX-D004")]
)
def test_a_large_file_that_is_no_radiograph_is_refused_by_its_first_bytes(tmp_path, start, code):
    path = tmp_path / "x.jpg"
    path.write_bytes(start)
    os.truncate(path, 50_000_000)
    tracemalloc.start()
    try:
        assert read_code(path) == code
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["text.jpg", "unknown_format.jpg"])
def test_reading_and_decoding_refuse_an_unknown_format_alike(tmp_path, name):
    path, data = tmp_path / name, corpus.PLANTED[name]()
    path.write_bytes(data)
    assert read_code(path) == code_of(data) == corpus.PLANTED_CODES[name]


def test_want_of_memory_while_reading_is_put_off(tmp_path, monkeypatch):
    class Hungry(io.BufferedReader):
        def read(self, size=-1):
            if size > HEAD_BYTES:
                raise MemoryError
            return super().read(size)

    path = tmp_path / "x.jpg"
    path.write_bytes(WHOLE["jpeg"])
    door = "mxbatch.engine.decode.radiograph.open"
    monkeypatch.setattr(door, lambda handle, _: Hungry(io.FileIO(handle)), raising=False)
    assert read_code(path) == "MX-D001"


def test_what_is_no_file_is_told_apart_from_what_is_gone(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "large.jpg").write_bytes(bytes(101))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.jpg"))
        codes = {
            path.stem: read_code(path, Limits(max_file_bytes=100)) for path in sorted(tmp_path.iterdir())
        }
    assert codes == {
        "folder": "MX-A102",
        "pipe": "MX-A102",
        "socket": "MX-A102",
        "link": "MX-D002",
        "loop": "MX-D001",
        "empty": "MX-D003",
        "large": "MX-D006",
    }
    assert read_code(tmp_path / "gone.jpg") == "MX-D002"


def test_a_file_without_permission_is_unreadable(tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(b"x")
    path.chmod(0)
    me = os.geteuid()
    try:
        if me == 0:  # root may read everything: be somebody else for a moment
            os.seteuid(65534)
        assert read_code(path) == "MX-D001"
    finally:
        os.seteuid(me)


@pytest.mark.parametrize("data", [bytes(100), WHOLE["jpeg"]], ids=["zeros so far", "a radiograph"])
@pytest.mark.parametrize("change", [-3, 5])
def test_a_file_that_changes_while_it_is_read_is_put_off(tmp_path, monkeypatch, change, data):
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    honest = os.fstat

    def before_the_change(descriptor):
        status = list(honest(descriptor))
        status[6] += change
        return os.stat_result(status)

    monkeypatch.setattr("mxbatch.engine.decode.radiograph.os.fstat", before_the_change)
    code = read_code(path)
    assert code == "MX-D001"
    assert CODES[code].transient
