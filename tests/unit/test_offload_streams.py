"""What goes to a GPU's decoder is what the header vouches for; all else stays with the host."""

from __future__ import annotations

import bad_files
import corpus
import numpy as np
import pytest
from fake_codec import pixels_of

from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.offload.streams import JPEG, JPEG_2000, LOSSLESS, Stream, stream_of

CONTRACT, LIMITS = InputContract(size=32), Limits()


def stream(data: bytes, contract: InputContract = CONTRACT, limits: Limits = LIMITS) -> Stream | None:
    return stream_of(data, contract, limits)


def baseline(**options: object) -> bytes:
    return corpus.dicom(syntax=corpus.JPEG_BASELINE, bits=8, **options)  # type: ignore[arg-type]


TAKEN = {
    "grey jpeg": (corpus.jpeg(), JPEG, 4, False),
    "colour jpeg": (corpus.jpeg(mode="RGB"), JPEG, 4, False),
    "dicom jpeg": (baseline(), JPEG, 4, False),
    "dicom lossless": (corpus.dicom(syntax=corpus.JPEG_LOSSLESS_SV1), LOSSLESS, 1, True),
    "dicom lossless 8": (corpus.dicom(syntax=corpus.JPEG_LOSSLESS, bits=8), LOSSLESS, 1, False),
    "dicom jpeg 2000": (corpus.dicom(syntax=corpus.JPEG_2000_LOSSLESS), JPEG_2000, 1, True),
    "dicom jpeg 2000 lossy": (corpus.dicom(syntax=corpus.JPEG_2000, bits=8), JPEG_2000, 1, False),
    "lossless jpeg": (corpus.codestream(corpus.mouse(bits=16), corpus.JPEG_LOSSLESS), LOSSLESS, 1, True),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_a_gpu_can_decode_is_taken_with_all_that_its_picture_needs(name: str) -> None:
    data, kind, scale, deep = TAKEN[name]
    found = stream(data)
    assert found is not None
    assert (found.kind, found.width, found.height) == (kind, 200, 120)
    assert (found.scale, found.deep, found.white_is_zero) == (scale, deep, False)
    pixels = pixels_of(found)
    assert pixels.shape == (120, 200)
    assert pixels.dtype == (np.uint16 if deep else np.uint8)


HOSTS = {
    "png": corpus.png(),
    "uncompressed": corpus.dicom(),
    "progressive": corpus.jpeg(progressive=True),
    "cmyk": corpus.jpeg(mode="CMYK"),
    "odd chroma": corpus.odd_jpeg(),
    "truncated": bad_files.truncated_jpeg(),
    "padded with zeros": bad_files.truncated_jpeg() + bytes(500),
    "no bytes": bad_files.zero_bytes(),
    "text": bad_files.text(),
    "huge header": bad_files.huge_header_jpeg(),
    "colour in dicom": corpus.dicom(
        syntax=corpus.JPEG_BASELINE, bits=8, photometric="RGB", pixels=corpus.coloured(corpus.mouse())
    ),
    "signed": corpus.dicom(syntax=corpus.JPEG_2000_LOSSLESS, signed=True),
    "a palette": baseline(photometric="PALETTE COLOR"),
    "fewer bits stored": corpus.dicom(syntax=corpus.JPEG_LOSSLESS, BitsStored=12),
    "another size": baseline(Rows=119),
    "jpeg-ls": corpus.dicom(syntax=corpus.JPEG_LS),
    "run-length": corpus.dicom(syntax=corpus.RLE),
    "adobe rgb": corpus.jpeg(mode="RGB").replace(
        b"\xff\xdb", b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0\xff\xdb", 1
    ),
}


@pytest.mark.parametrize("name", HOSTS)
def test_whatever_is_doubtful_stays_with_the_host(name: str) -> None:
    assert stream(HOSTS[name]) is None


def test_zero_may_be_white_and_jpegs_may_have_to_be_whole() -> None:
    found = stream(baseline(photometric="MONOCHROME1"), InputContract(size=32, jpeg_scaled=False))
    assert found is not None
    assert found.white_is_zero
    assert found.scale == 1


def test_of_several_frames_the_first_is_taken() -> None:
    one, several = stream(baseline()), stream(baseline(frames=3))
    assert one is not None
    assert several is not None
    assert np.array_equal(pixels_of(several), pixels_of(one))


def test_nothing_is_taken_where_the_animal_is_turned_or_the_picture_too_large() -> None:
    assert stream(corpus.jpeg(), InputContract(size=32, upright=True)) is None
    assert stream(corpus.jpeg(), limits=Limits(max_pixels=1000)) is None


@pytest.mark.parametrize("name", TAKEN)
def test_no_damage_raises(name: str) -> None:
    data = TAKEN[name][0]
    rng = np.random.default_rng(0)
    for size in rng.integers(0, len(data), 40):
        stream(data[:size])
        broken = bytearray(data)
        broken[size] ^= 255
        stream(bytes(broken))
