"""Decoded sets on disk, within a budget: before a new one is made, those not used for longest make room.

    NAME/        a decoded set (decoded.py) · NAME.new/  one that is being made, or that a crash left
    NAME.lock    held by who makes, opens or removes the set; its own time says when the set was last opened

A process that works with a set holds it by a shared lock on its pixels, for as long as they are mapped.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

KEEP_GB = 20.0
"""By default. Some 80,000 radiographs of 500 pixels a side."""
PIXELS, NOTE = "images.u8", "images.json"
LOCK, UNFINISHED = ".lock", ".new"
OURS = re.compile(rf"([0-9a-f]{{32}})(?:{re.escape(UNFINISHED)})?")
BYTES = 1_000_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """What is kept under one name."""

    name: str
    bytes: int
    used: float
    """When it was opened last, seconds since 1970."""
    finished: bool
    """Whether there is a set: remains of a decoding that broke off are no use to anybody."""


def room_for(
    sets: Iterable[Kept], wanted_bytes: int, budget_bytes: int, removable: Callable[[Kept], bool]
) -> Iterator[Kept]:
    """What has to go so that `wanted_bytes` fit beside what stays: remains first, then what was not used for longest.

    `removable` is asked of each before it is given, and what is not removable is passed over.
    """
    order = sorted(sets, key=lambda kept: (kept.finished, kept.used, kept.name))
    total = sum(kept.bytes for kept in order) + wanted_bytes
    for kept in order:
        if (total > budget_bytes or not kept.finished) and removable(kept):
            total -= kept.bytes
            yield kept


def make_room(folder: Path, wanted_bytes: int, budget_bytes: int, note: Callable[[str], None]) -> None:
    """Remove sets below `folder` until `wanted_bytes` more keep it within the budget; `note` is told what went.

    A set that somebody makes, opens or works with stays, and where that is too much, `note` is told so.
    """
    sets = kept_in(folder)
    left = sum(kept.bytes for kept in sets) + wanted_bytes
    gone = list(room_for(sets, wanted_bytes, budget_bytes, lambda kept: _remove(folder, kept.name)))
    left -= sum(kept.bytes for kept in gone)
    if gone:
        newest = datetime.fromtimestamp(max(kept.used for kept in gone), UTC)
        note(
            f"removed {len(gone)} decoded {'set' if len(gone) == 1 else 'sets'}, {_gb(sum(k.bytes for k in gone))},"
            f" not used since {newest:%Y-%m-%d} or longer, to keep {folder} within {_gb(budget_bytes)}"
        )
    if left > budget_bytes:
        note(f"{folder} will hold {_gb(left)}, more than {_gb(budget_bytes)}: this set, and what others use")


def kept_in(folder: Path) -> Sequence[Kept]:
    """The sets below `folder`, by name, and nothing else that is there. What goes away meanwhile counts nothing."""
    by_name: dict[str, list[Path]] = {}
    for place in sorted(folder.iterdir()):
        if (ours := OURS.fullmatch(place.name)) and place.is_dir():
            by_name.setdefault(ours[1], []).append(place)
    return [
        Kept(
            name=name,
            bytes=sum(_size(place / file) for place in parts for file in (PIXELS, NOTE)),
            used=_used(folder / f"{name}{LOCK}"),
            finished=(folder / name / NOTE).is_file(),
        )
        for name, parts in by_name.items()
    ]


@contextmanager
def alone(lock: Path, *, wait: bool = True) -> Iterator[bool]:
    """Nobody else is inside with the same `lock`; a process that dies lets go of it.

    Gives whether that is so: always, but where somebody else is inside and `wait` is false.
    """
    with lock.open("a") as handle:
        yield _locked(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def used_now(lock: Path) -> None:
    """Note, under `lock`, that its set is opened."""
    os.utime(lock)


def hold(pixels: IO[bytes]) -> None:
    """Keep the set of the open file `pixels` from being removed, until the file, and what is mapped of it, is closed.

    A mapping keeps the file open of itself. Without waiting: who removes a set is alone with its name.
    """
    _locked(pixels, fcntl.LOCK_SH | fcntl.LOCK_NB)


def clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _remove(folder: Path, name: str) -> bool:
    """Remove what is kept under `name`, unless somebody needs it; whether it is gone.

    Its lock, which is empty, stays: somebody else may have it open and wait for it.
    """
    places = folder / name, folder / f"{name}{UNFINISHED}"
    try:
        with alone(folder / f"{name}{LOCK}", wait=False) as held:
            if held and _idle(folder / name / PIXELS):
                for place in places:
                    clear(place)
    except PermissionError:  # it is not ours
        return False
    return not any(place.exists() for place in places)


def _idle(pixels: Path) -> bool:
    """Whether nobody works with the set. Nobody can begin to meanwhile: that takes the lock of its name."""
    try:
        with pixels.open("r+b") as file:  # a mounted NFS locks only what is open for writing
            return _locked(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True


def _locked(file: IO[bytes] | IO[str], how: int) -> bool:
    try:
        fcntl.flock(file, how)
    except (BlockingIOError, PermissionError):  # NFS makes it of other locks, which say the second
        return False
    return True


def _used(lock: Path) -> float:
    try:
        return lock.stat().st_mtime
    except OSError:
        return 0.0


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _gb(count: int) -> str:
    return f"{count / BYTES:.3g} GB"
