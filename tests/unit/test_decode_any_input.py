"""Whatever comes in, bombs, any bytes or no file at all, ends as a picture or a code: quickly, in little memory."""

from __future__ import annotations

import io
import os
import pickle
import socket
import struct
import tracemalloc

import bad_files
import corpus
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from whole_files import CONTRACT, LIMITS, WHOLE, code_of

from mxbatch.engine.decode.contract import Limits
from mxbatch.engine.decode.radiograph import FORMATS, Decoded, decode, read_bytes
from mxbatch.engine.decode.sniff import HEAD_BYTES
from mxbatch.engine.errors import CODES, RadiographError

# --- bombs ---


def test_every_format_is_among_the_files_that_tests_damage_and_that_lie_about_their_size():
    assert {name.split()[0] for name in WHOLE} == set(bad_files.HUGE) == set(FORMATS)


@pytest.mark.parametrize("name", bad_files.HUGE)
def test_a_header_that_claims_65500_by_65500_costs_no_memory(name):
    data = bad_files.HUGE[name]()
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
    data = bad_files.deflate_bomb_dicom(100_000_000)
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
    data = bad_files.deep_nesting_dicom(50_000)
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
        decode(bad_files.truncated_jpeg(), CONTRACT, LIMITS)
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
    path, data = tmp_path / name, bad_files.PLANTED[name]()
    path.write_bytes(data)
    assert read_code(path) == code_of(data) == bad_files.PLANTED_CODES[name]


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
