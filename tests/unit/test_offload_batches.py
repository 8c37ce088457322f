"""Batches on a device: the host's pictures within the tolerance, and no fate hangs on who else is in the batch."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import corpus
import numpy as np
import pytest
from fake_codec import FakeCodec, Lenient, Touchy
from numpy.typing import NDArray

from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.radiograph import decode
from mxbatch.engine.offload.batches import BATCH, Codec, Gatherer, GpuBatches, Pictures
from mxbatch.engine.offload.streams import KINDS, Stream, stream_of
from mxbatch.engine.offload.trial import MEAN, MOST, difference

CONTRACT, LIMITS = InputContract(size=48), Limits()
FILES = {
    "jpeg": corpus.jpeg(401, 333),
    "jpeg at a fourth": corpus.jpeg(260, 250),
    "colour": corpus.jpeg(500, 400, mode="RGB"),
    "dicom jpeg": corpus.dicom(301, 200, syntax=corpus.JPEG_BASELINE, bits=8, photometric="MONOCHROME1"),
    "lossless": corpus.dicom(150, 99, syntax=corpus.JPEG_LOSSLESS_SV1, stored=12, photometric="MONOCHROME1"),
    "jpeg 2000": corpus.dicom(97, 150, syntax=corpus.JPEG_2000_LOSSLESS),
    "jpeg 2000 lossy": corpus.dicom(97, 150, syntax=corpus.JPEG_2000, bits=8),
}


def stream(data: bytes) -> Stream:
    found = stream_of(data, CONTRACT, LIMITS)
    assert found is not None
    return found


def on_host(data: bytes) -> NDArray[np.uint8]:
    return decode(data, CONTRACT, LIMITS).image


def batches(codec: Codec) -> GpuBatches:
    return GpuBatches(dict.fromkeys(KINDS, codec), CONTRACT, "cpu")


def hole(data: bytes) -> bytes:
    """Bytes lost in the middle of the picture; header and end are whole."""
    return data[: len(data) // 2] + bytes(len(data) // 4) + data[len(data) // 2 + len(data) // 4 :]


@pytest.mark.parametrize("name", FILES)
def test_a_picture_is_the_hosts_within_the_tolerance(name: str) -> None:
    if name == "lossless":  # 12 bits stored in a stream of 16: the host masks them
        assert stream_of(FILES[name], CONTRACT, LIMITS) is None
        return
    (found,) = batches(FakeCodec()).decode([stream(FILES[name])])
    assert found is not None
    mean, most = difference(found, on_host(FILES[name]))
    assert mean <= MEAN
    assert most <= MOST


def test_of_real_radiographs_too_and_the_blocks_are_what_makes_it_so(radiographs: Path) -> None:
    contract = InputContract(size=224)
    data = (radiographs / "whole_body_dv_a.jpg").read_bytes()
    one = stream_of(data, contract, LIMITS)
    assert one is not None
    assert one.scale == 8
    decoder = GpuBatches({one.kind: FakeCodec()}, contract, "cpu")
    with_blocks, without = decoder.decode([one, replace(one, scale=1)])
    assert with_blocks is not None
    assert without is not None
    expected = decode(data, contract, LIMITS).image
    mean, most = difference(with_blocks, expected)
    assert mean <= 0.25
    assert most <= 1
    assert difference(without, expected)[1] > MOST


def test_a_mixed_batch_gives_each_its_own_picture_whatever_is_broken_beside_it() -> None:
    whole = [stream(FILES[name]) for name in ("jpeg", "jpeg 2000", "colour", "dicom jpeg")]
    alone = [batches(FakeCodec()).decode([one])[0] for one in whole]
    flat = stream(corpus.save(corpus.Image.new("L", (90, 60), 100), "JPEG"))
    broken = Stream("jpeg", b"\xff\xd8\xff\xd9", 10, 10)
    found = batches(Touchy()).decode([whole[0], broken, *whole[1:], flat])
    assert found[1] is None
    assert found[-1] is None  # no contrast: the host has a code for that
    for got, wanted in zip([found[0], *found[2:-1]], alone, strict=True):
        assert got is not None
        assert np.array_equal(got, wanted)


def test_every_kind_goes_to_its_own_codec() -> None:
    jpegs, others = FakeCodec(), FakeCodec()
    decoder = GpuBatches({"jpeg": jpegs, "jpeg 2000": others}, CONTRACT, "cpu")
    found = decoder.decode([stream(FILES[name]) for name in ("jpeg", "jpeg 2000", "colour")])
    assert all(picture is not None for picture in found)
    assert (jpegs.seen, others.seen) == ([2], [1])


def test_a_picture_of_another_size_or_depth_than_the_header_promised_is_none() -> None:
    one = stream(FILES["jpeg"])
    wrong = Stream(one.kind, one.data, one.width, one.height, deep=True), Stream(one.kind, one.data, 5, 5)
    assert batches(FakeCodec()).decode(wrong) == [None, None]


def test_a_codec_that_gives_up_altogether_leaves_all_to_the_host() -> None:
    class Gone(FakeCodec):
        def decode(self, streams: Sequence[Stream]) -> list[None]:  # type: ignore[override]
            raise RuntimeError("no device")

    assert batches(Gone()).decode([stream(FILES["jpeg"])] * 3) == [None] * 3


class Slow:
    """Waits with its first batch until it is told to go on."""

    def __init__(self, inner: GpuBatches) -> None:
        self.inner, self.go, self.sizes = inner, threading.Event(), list[int]()

    def decode(self, streams: Sequence[Stream]) -> Pictures:
        self.sizes.append(len(streams))
        self.go.wait(30)
        return self.inner.decode(streams)


def test_while_a_batch_is_decoded_the_next_gathers_and_everybody_gets_his_own() -> None:
    names = [name for name in FILES if name != "lossless"] * 8
    slow = Slow(batches(Lenient()))
    gatherer = Gatherer(slow)
    with ThreadPoolExecutor(len(names)) as pool:
        waiting = [pool.submit(gatherer.decode, stream(FILES[name])) for name in names]
        while gatherer._queue.qsize() + sum(slow.sizes) < len(names):
            threading.Event().wait(0.01)
        slow.go.set()
        answers = [one.result(timeout=60) for one in waiting]
    assert sum(slow.sizes) == len(names)
    assert max(slow.sizes) == BATCH
    for name, answer in zip(names, answers, strict=True):
        (expected,) = slow.inner.decode([stream(FILES[name])])
        assert answer.picture is not None
        assert np.array_equal(answer.picture, expected)
        assert answer.seconds > 0


def test_what_the_decoder_raises_reaches_all_who_wait_and_it_serves_on() -> None:
    class Once:
        broken = True

        def decode(self, streams: Sequence[Stream]) -> Pictures:
            if self.broken:
                self.broken = False
                raise RuntimeError("lost")
            return [None] * len(streams)

    gatherer = Gatherer(Once())
    with pytest.raises(RuntimeError, match="lost"):
        gatherer.decode(stream(FILES["jpeg"]))
    assert gatherer.decode(stream(FILES["jpeg"])).picture is None
