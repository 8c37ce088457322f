"""The gate: only what gives the host's pictures, refuses damage and keeps its bits is used, and the reason is told."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import bad_files
import corpus
import pytest
from fake_codec import FakeCodec, Lenient, Shifted, Sociable, Touchy

from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.offload import trial
from mxbatch.engine.offload.batches import Codec
from mxbatch.engine.offload.streams import JPEG, JPEG_2000, LOSSLESS
from mxbatch.engine.offload.trial import OTHER, Order, Tried, try_offload


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "MEASURE_S", 0.0)
    monkeypatch.setattr(trial, "BATCH", 3)


@pytest.fixture
def order(tmp_path: Path) -> Order:
    """An archive of every kind, each often enough, one of them rarely; and files that are no radiographs."""
    files = {f"{n}.jpg": corpus.jpeg(400 + n, 300) for n in range(6)}
    files |= {f"{n}.dcm": corpus.dicom(90 + n, 80, syntax=corpus.JPEG_2000_LOSSLESS) for n in range(5)}
    files |= {"rare.dcm": corpus.dicom(syntax=corpus.JPEG_LOSSLESS), "a.png": corpus.png()}
    files |= {"half.jpg": bad_files.truncated_jpeg(), "text.jpg": bad_files.text()}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return Order(
        root=tmp_path,
        paths=(*files, "gone.jpg"),
        contract=InputContract(size=32),
        limits=Limits(),
        device="cpu",
        threads=1,
    )


def opening(codec: Callable[[], Codec]) -> Callable[[str, str], Codec]:
    """Only the engine `cuda` is there."""

    def open_codec(device: str, engine: str) -> Codec:
        if engine != "cuda":
            raise RuntimeError("no such engine\nhere")
        return codec()

    return open_codec


def test_what_passes_is_timed_beside_the_host_and_the_rest_is_counted(order: Order) -> None:
    notes: list[str] = []
    found = try_offload(order, notes.append, opening(FakeCodec))
    assert {kind: (one.count, one.engine) for kind, one in found.items()} == {
        JPEG: (6, "cuda"),
        JPEG_2000: (5, "cuda"),
        LOSSLESS: (1, ""),  # too rare to be judged
        OTHER: (1, ""),
    }
    assert all(one.host_per_s > 0 for one in found.values())
    assert found[JPEG].gpu_per_s > 0
    assert notes == ["nvImageCodec's engine 'hardware' cannot be used here: no such engine"]


@pytest.mark.parametrize(
    ("codec", "why"),
    [
        (Lenient, "it takes a damaged file for a picture"),
        (Shifted, r"a picture differs from the host's by [\d.]+ grey levels on average"),
        (Sociable, "a picture depends on what else is in its batch"),
    ],
)
def test_what_does_not_pass_stays_with_the_host_and_the_reason_is_told(
    codec: type[FakeCodec], why: str, order: Order
) -> None:
    notes: list[str] = []
    found = try_offload(order, notes.append, opening(codec))
    assert found[JPEG].engine == ""
    told = [note for note in notes if note.startswith("jpeg is not decoded by the GPU's engine 'cuda': ")]
    assert len(told) == 1
    assert re.search(why, told[0])


def test_a_codec_that_raises_for_a_bad_file_passes_as_one_that_says_none(order: Order) -> None:
    assert try_offload(order, lambda note: None, opening(Touchy))[JPEG].engine == "cuda"


def test_a_codec_that_decodes_nothing_is_told(order: Order) -> None:
    class Blind(FakeCodec):
        def one(self, stream: object) -> None:
            return None

    notes: list[str] = []
    assert try_offload(order, notes.append, opening(Blind))[JPEG].engine == ""
    assert "jpeg is not decoded by the GPU's engine 'cuda': it decodes 0 of 9 radiographs" in notes


def test_of_two_engines_the_faster_is_taken(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = iter([100.0, 300.0, 200.0, 50.0])
    monkeypatch.setattr(trial, "_gpu_rate", lambda batches, streams: next(rates))
    found = try_offload(order, pytest.fail, lambda device, engine: FakeCodec())
    assert (found[JPEG].engine, found[JPEG].gpu_per_s) == ("cuda", 300.0)
    assert (found[JPEG_2000].engine, found[JPEG_2000].gpu_per_s) == ("hardware", 200.0)


def test_an_archive_without_such_files_opens_no_codec(tmp_path: Path, order: Order) -> None:
    def open_codec(device: str, engine: str) -> Codec:
        raise AssertionError("opened")

    alone = Order(
        root=tmp_path, paths=("a.png",), contract=order.contract, limits=Limits(), device="cpu", threads=1
    )
    found = try_offload(alone, pytest.fail, open_codec)
    assert found == {OTHER: Tried(count=1, host_per_s=found[OTHER].host_per_s)}


def test_the_damage_that_is_tried_is_refused_by_the_host(order: Order) -> None:
    """Else the gate would ask for nothing."""
    group = trial.sort_out([corpus.jpeg(400, 300)], order.contract, order.limits)[JPEG]
    assert len(trial._damaged(group, order)) == 2
