"""Radiographs, read and decoded ahead of the model: the front half of the hot path.

Threads read ahead, so that what a disk, or the server of a network file system, takes its time to bring is here when
it is wanted. With a GPU they decode, too, because every decoder that matters lets go of the GIL; there are more of them
than may decode at a time, so that while those do, the others wait for files. Where model and decoders share a core, the
model's own thread decodes between its batches: nothing is gained by switching between two threads, and 3 % was lost.
The look-ahead is bounded, so memory depends on its length and not on the archive's.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Semaphore
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.radiograph import decode, read_bytes
from mxbatch.engine.errors import EnvironmentFault, RadiographError
from mxbatch.engine.offload.streams import Stream
from mxbatch.engine.plan import Radiograph

Item = TypeVar("Item")
READ_AHEAD = 4
"""Files that a worker reads, or has read, beside those that it decodes: enough to hide a server's answer, and few
enough that the bytes of large files do not add up."""
AHEAD_BYTES = 64_000_000
"""Beyond these, only `READ_AHEAD` files wait as they are on disk."""


class Offload(Protocol):
    """What decodes on a GPU some of the radiographs (engine/offload). Safe to call from several threads."""

    def take(self, path: str, data: bytes) -> Stream | None:
        """What of the file `data` goes there; None where the host is to decode it."""
        ...

    def decode(self, stream: Stream) -> tuple[NDArray[np.uint8] | None, float]:
        """`uint8[S, S]`, or None where it could not be decoded there; and its share of the decoder's seconds."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """One radiograph as the model wants it, `image: uint8[S, S]`, or the error that stands in its place."""

    image: NDArray[np.uint8] | None = None
    error: RadiographError | None = None
    checksum: str | None = None
    """SHA-256 of the file's bytes, in hex; None where they could not be read."""
    read_s: float = 0.0
    decode_s: float = 0.0
    """With the checksum."""
    gpu_s: float = 0.0
    """Its share of the time that a GPU's decoder worked; the thread that waited for it did nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The bytes of a radiograph, or the error that stands in their place."""

    path: str
    data: bytes | None
    error: RadiographError | None
    read_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """Reads and decodes single radiographs of one archive. Safe to call from several threads."""

    root: Path
    contract: InputContract
    limits: Limits
    turns: AbstractContextManager[object] = field(default_factory=nullcontext)
    """Held while the bytes of a file keep a core busy; a semaphore where there are more threads than cores."""
    offload: Offload | None = None
    """What takes its share of the decoding off the cores."""

    def load(self, radiograph: Radiograph) -> Loaded:
        """Never raises for a bad radiograph. Raises EnvironmentFault (MX-E001) when the archive itself is gone."""
        return self.decode(self.fetch(radiograph))

    def fetch(self, radiograph: Radiograph) -> Fetched:
        """The first half of `load`: its bytes, or the error in their place. Raises as `load` does."""
        spent: defaultdict[str, float] = defaultdict(float)
        data = error = None
        try:
            with timed(spent, "read"):
                data = read_bytes(self.root / radiograph.path, self.limits)
        except RadiographError as refused:
            require_archive(self.root)
            error = refused
        return Fetched(path=radiograph.path, data=data, error=error, read_s=spent["read"])

    def decode(self, fetched: Fetched) -> Loaded:
        """The second half of `load`: what becomes of the bytes."""
        if fetched.data is None:
            return Loaded(error=fetched.error, read_s=fetched.read_s)
        spent: defaultdict[str, float] = defaultdict(float)
        checksum = image = error = None
        try:
            with self.turns, timed(spent, "decode"):
                checksum = hashlib.sha256(fetched.data).hexdigest()
                stream = self.offload.take(fetched.path, fetched.data) if self.offload else None
                if stream is None:
                    image = decode(fetched.data, self.contract, self.limits).image
            if stream is not None and self.offload is not None:
                image, spent["gpu"] = self.offload.decode(stream)
                if image is None:  # the host has the last word, and the words for what is wrong
                    with self.turns, timed(spent, "decode"):
                        image = decode(fetched.data, self.contract, self.limits).image
        except RadiographError as refused:
            error = refused
        return Loaded(
            image=image,
            error=error,
            checksum=checksum,
            read_s=fetched.read_s,
            decode_s=spent["decode"],
            gpu_s=spent["gpu"],
        )


@contextmanager
def timed(seconds: defaultdict[str, float], stage: str) -> Iterator[None]:
    """Count what happens within, well or badly, as time of `stage`."""
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] += time.perf_counter() - started


def loader_pool(decoders: int, waiting: int = 0) -> tuple[ThreadPoolExecutor, Semaphore]:
    """Threads to load with, and the turns of a `Loader` that lets `decoders` of them decode at a time; 0 only read.

    `waiting` are more of them, for radiographs that are with a GPU's decoder.
    """
    pool = ThreadPoolExecutor(decoders + READ_AHEAD + waiting, thread_name_prefix="load")
    return pool, Semaphore(max(1, decoders))


def require_archive(root: Path) -> None:
    """Raise when the archive is gone as a whole: an unmounted disk must not put every file in quarantine."""
    try:
        with os.scandir(root) as entries:
            if next(entries, None) is not None:
                return
    except OSError as error:
        raise EnvironmentFault("MX-E001", error.strerror or str(error), path=root) from None
    raise EnvironmentFault("MX-E002", "the folder is empty now: unmounted?", path=root)


def load_ahead(
    load: Callable[[Radiograph], Item],
    radiographs: Sequence[Radiograph],
    pool: Executor,
    ahead: int,
    ahead_bytes: int | None = None,
) -> Iterator[Item]:
    """What `load` makes of each radiograph, in their order, at most `ahead` of them beyond the one awaited.

    With `ahead_bytes`, no more than `READ_AHEAD` of them either while their files together are larger.
    """
    window: deque[tuple[Future[Item], int]] = deque()
    held = 0

    def full() -> bool:
        over = ahead_bytes is not None and held > ahead_bytes
        return len(window) > (min(ahead, READ_AHEAD) if over else ahead)

    try:
        for radiograph in radiographs:
            window.append((pool.submit(load, radiograph), radiograph.size))
            held += radiograph.size
            while full():
                future, size = window.popleft()
                held -= size
                yield future.result()
        while window:
            yield window.popleft()[0].result()
    finally:
        for future, _ in window:
            future.cancel()
