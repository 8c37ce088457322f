"""Loading ahead: in order, never more decoders at a time than there are turns, and reading does not wait for them."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import corpus
import numpy as np
import pytest

from mxbatch.engine import feed
from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.feed import READ_AHEAD, Loader, load_ahead, loader_pool
from mxbatch.engine.plan import Radiograph

FILES = 12


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    for number in range(FILES):
        (tmp_path / f"{number}.png").write_bytes(corpus.png(60 + number, 50))
    (tmp_path / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return tmp_path


@pytest.fixture
def radiographs(archive: Path) -> list[Radiograph]:
    return [Radiograph(f"{number}.png", "dv", 0, 0) for number in range(FILES)]


def load_all(archive, radiographs, decoders, ahead=8):
    pool, turns = loader_pool(decoders)
    loader = Loader(root=archive, contract=InputContract(size=32), limits=Limits(), turns=turns)
    with pool:
        return list(load_ahead(loader.load, radiographs, pool, ahead))


@pytest.mark.parametrize("decoders", [1, 3])
def test_what_comes_out_is_what_one_thread_would_have_made(archive, radiographs, decoders):
    alone = Loader(root=archive, contract=InputContract(size=32), limits=Limits())
    expected = [alone.load(radiograph) for radiograph in radiographs]
    for got, wanted in zip(load_all(archive, radiographs, decoders), expected, strict=True):
        assert got.checksum == wanted.checksum
        assert str(got.error) == str(wanted.error)
        assert np.array_equal(got.image, wanted.image)
    assert [one.error is not None for one in expected].index(True) == 3


def test_files_are_on_their_way_while_others_are_decoded(archive, radiographs, monkeypatch):
    """With one decoder: the reads can only meet at the barrier if none of them waits for a decoder's turn."""
    meeting, real = threading.Barrier(1 + READ_AHEAD, timeout=30), feed.read_bytes

    def slow(path, limits):
        if int(path.stem) <= READ_AHEAD:
            meeting.wait()
        return real(path, limits)

    monkeypatch.setattr(feed, "read_bytes", slow)
    assert sum(one.image is not None for one in load_all(archive, radiographs, decoders=1)) == FILES - 1
    assert not meeting.broken


@pytest.mark.parametrize("decoders", [1, 2])
def test_no_more_decode_at_a_time_than_may(archive, radiographs, decoders, monkeypatch):
    lock, now, most, real = threading.Lock(), [0], [0], feed.decode

    @contextmanager
    def counted():
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        yield
        with lock:
            now[0] -= 1

    def counting(data, contract, limits):
        with counted():
            time.sleep(0.005)  # long enough that another would come in, if it could
            return real(data, contract, limits)

    monkeypatch.setattr(feed, "decode", counting)
    load_all(archive, [radiograph for radiograph in radiographs if radiograph.path != "3.png"], decoders)
    assert most[0] == decoders


def test_where_the_models_thread_decodes_the_threads_only_read(archive, radiographs, monkeypatch):
    decoding, real = set(), feed.decode

    def noting(data, contract, limits):
        decoding.add(threading.current_thread())
        return real(data, contract, limits)

    monkeypatch.setattr(feed, "decode", noting)
    pool, turns = loader_pool(0)
    loader = Loader(root=archive, contract=InputContract(size=32), limits=Limits(), turns=turns)
    with pool:
        fetched = load_ahead(loader.fetch, radiographs, pool, ahead=8, ahead_bytes=1_000)
        loaded = [loader.decode(one) for one in fetched]
    assert decoding == {threading.current_thread()}
    for got, radiograph in zip(loaded, radiographs, strict=True):
        wanted = loader.load(radiograph)
        assert (got.checksum, str(got.error)) == (wanted.checksum, str(wanted.error))
        assert np.array_equal(got.image, wanted.image)


@pytest.mark.parametrize(("size", "most"), [(10, 8), (500, READ_AHEAD)])
def test_few_files_are_held_where_they_are_large(size, most):
    """One more than these is on its way while the consumer has the one that it waited for."""
    asked, now, worst = [], 0, 0

    def load(radiograph):
        asked.append(radiograph)
        return radiograph

    radiographs = [Radiograph(f"{n}", "dv", size, 0) for n in range(40)]
    with ThreadPoolExecutor(1) as pool:
        for now, _ in enumerate(load_ahead(load, radiographs, pool, ahead=8, ahead_bytes=1_000)):
            pool.submit(int).result()  # all that was asked for so far is done
            worst = max(worst, len(asked) - 1 - now)
    assert now == 39
    assert worst == most
