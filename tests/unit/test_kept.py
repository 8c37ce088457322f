"""Decoded sets within a budget: what was not used for longest goes, what somebody needs stays."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import corpus
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mxbatch.engine.decode.contract import InputContract
from mxbatch.engine.plan import Radiograph
from mxbatch.trainer.decoded import decode_all
from mxbatch.trainer.kept import BYTES, LOCK, NOTE, PIXELS, UNFINISHED, Kept, kept_in, make_room, room_for

SIZE = 16
PICTURE = SIZE * SIZE


def kept(name: str, size: int, used: float, *, finished: bool = True) -> Kept:
    return Kept(name=name, bytes=size, used=used, finished=finished)


def always(_: Kept) -> bool:
    return True


def names(sets: list[Kept], wanted: int, budget: int, removable: Callable[[Kept], bool] = always) -> str:
    return " ".join(one.name for one in room_for(sets, wanted, budget, removable))


THREE = [kept("new", 10, 3), kept("old", 10, 1), kept("mid", 10, 2)]


@pytest.mark.parametrize(
    ("wanted", "budget", "gone"),
    [
        (10, 40, ""),
        (10, 39, "old"),
        (10, 30, "old"),
        (10, 29, "old mid"),
        (10, 5, "old mid new"),
        (0, 30, ""),
    ],
)
def test_the_least_recently_used_go_until_the_rest_fits(wanted: int, budget: int, gone: str) -> None:
    assert names(THREE, wanted, budget) == gone


def test_what_cannot_go_is_passed_over() -> None:
    assert names(THREE, 10, 30, lambda one: one.name != "old") == "mid"


def test_what_a_crash_left_goes_first_and_even_where_there_is_room() -> None:
    assert names([*THREE, kept("torn", 10, 9, finished=False)], 0, 100) == "torn"
    assert names([*THREE, kept("torn", 10, 9, finished=False)], 10, 40) == "torn"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=8), st.integers(0, 30))
def test_the_budget_holds_and_nothing_goes_in_vain(sets: list[tuple[int, int]], budget: int) -> None:
    sizes = [kept(f"{n}", size, used) for n, (size, used) in enumerate(sets)]
    gone = list(room_for(sizes, 0, budget, always))
    left = sum(one.bytes for one in sizes) - sum(one.bytes for one in gone)
    assert left <= budget
    if gone:
        assert left + gone[-1].bytes > budget
        assert max(one.used for one in gone) <= min((o.used for o in sizes if o not in gone), default=99)


# --- on disk ---


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def decoded(tmp_path: Path, cache: Path) -> Callable[..., NDArray[np.uint8]]:
    """Decode so many radiographs of an archive of that name, within a budget in pictures; `said` is told of it."""

    def decode(name: str, count: int = 1, *, budget: int = 99, said: Any = None) -> NDArray[np.uint8]:
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        wanted = []
        for n in range(count):
            content = corpus.png(20 + n, 30)
            (root / f"{n}.png").write_bytes(content)
            radiograph = Radiograph(path=f"{n}.png", view="dv", size=len(content), mtime_ns=0)
            wanted.append(((name, str(n)), radiograph))
        keep = (budget + 0.9) * PICTURE / BYTES  # notes take a little, too
        contract = InputContract(size=SIZE)
        done = decode_all(root, wanted, contract, folder=cache, threads=1, keep_gb=keep, note=said)
        return done.images

    return decode


def sets_in(cache: Path) -> list[str]:
    return [one.name for one in kept_in(cache)]


def age(cache: Path, *order: str) -> None:
    """As if these sets had been used one second after another, long ago."""
    for second, name in enumerate(order):
        os.utime(cache / f"{name}{LOCK}", (second, second))


def in_order_made(cache: Path, decoded: Callable[..., Any], *archives: str) -> list[str]:
    """Their sets, none of them in use, aged in this order."""
    made: list[str] = []
    for name in archives:
        decoded(name)
        made += [one for one in sets_in(cache) if one not in made]
    age(cache, *made)
    return made


def test_a_new_set_takes_the_place_of_the_one_not_used_for_longest(cache: Path, decoded: Any) -> None:
    a, b = in_order_made(cache, decoded, "a", "b")
    said: list[str] = []
    decoded("c", budget=2, said=said.append)
    assert a not in sets_in(cache)
    assert b in sets_in(cache)
    assert len(said) == 1
    assert "removed 1 decoded set" in said[0]
    assert "1970-01-01" in said[0]


def test_opening_a_set_counts_as_use(cache: Path, decoded: Any) -> None:
    a, b = in_order_made(cache, decoded, "a", "b")
    decoded("a", budget=0)  # it is there: nothing is decoded, and nothing has to go for it
    decoded("c", budget=2)
    assert a in sets_in(cache)
    assert b not in sets_in(cache)


def test_a_set_that_somebody_works_with_stays_as_long_as_its_pixels_are_mapped(
    cache: Path, decoded: Any
) -> None:
    images = decoded("a", 2)
    (a,) = sets_in(cache)
    age(cache, a)
    said: list[str] = []
    decoded("b", budget=1, said=said.append)
    assert a in sets_in(cache)
    assert ["will hold" in line for line in said] == [True]
    assert images.any()
    rest = images[1:]
    del images
    decoded("c", budget=1)
    assert a in sets_in(cache)
    del rest
    decoded("d", budget=1)
    assert len(sets_in(cache)) == 1


def test_a_set_that_another_process_makes_stays(cache: Path, decoded: Any) -> None:
    a, b = in_order_made(cache, decoded, "a", "b")
    with (cache / f"{a}{LOCK}").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        decoded("c", budget=1)
    assert a in sets_in(cache)
    assert b not in sets_in(cache)


def test_a_set_larger_than_the_budget_is_made_all_the_same(cache: Path, decoded: Any) -> None:
    (a,) = in_order_made(cache, decoded, "a")
    said: list[str] = []
    assert len(decoded("b", 3, budget=2, said=said.append)) == 3
    assert a not in sets_in(cache)
    assert len(sets_in(cache)) == 1
    assert ["removed 1" in said[0], "will hold" in said[1]] == [True, True]


def test_remains_of_a_decoding_that_broke_off_go(cache: Path, decoded: Any) -> None:
    decoded("a")
    torn = cache / f"{'0' * 32}{UNFINISHED}"
    torn.mkdir()
    (torn / PIXELS).write_bytes(b"half")
    decoded("b")
    assert not torn.exists()
    assert len(sets_in(cache)) == 2


def test_nothing_else_in_the_folder_is_touched(cache: Path, decoded: Any) -> None:
    decoded("a")
    (cache / "photos").mkdir()
    (cache / "photos" / "mouse.png").write_text("mine")
    make_room(cache, 0, 0, lambda line: None)
    assert (cache / "photos" / "mouse.png").read_text() == "mine"
    assert sets_in(cache) == []


def test_a_set_holds_its_pixels_and_its_note(cache: Path, decoded: Any) -> None:
    decoded("a", 2)
    (one,) = kept_in(cache)
    note = (cache / one.name / NOTE).stat().st_size
    assert one.bytes == 2 * PICTURE + note
