"""Radiographs, read and decoded ahead of the model: the front half of the hot path.

Threads do it, because every decoder that matters lets go of the GIL. There are more of them than may decode at a
time: while those do, the others wait for the disk, or for the server of a network file system, so that what takes its
time to arrive is already here. The look-ahead is bounded, so memory depends on its length and not on the archive's.
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
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.radiograph import decode, read_bytes
from mxbatch.engine.errors import EnvironmentFault, RadiographError
from mxbatch.engine.offload.streams import Stream
from mxbatch.engine.plan import Radiograph

READ_AHEAD = 4
"""Files that a worker reads, or has read, beside those that it decodes: enough to hide a server's answer, and few
enough that the bytes of large files do not add up."""


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
    gpu_s: float = 0.0
    """Its share of the time that a GPU's decoder worked; the thread that waited for it did nothing."""


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
        spent: defaultdict[str, float] = defaultdict(float)
        checksum = image = error = None
        try:
            with timed(spent, "read"):
                data = read_bytes(self.root / radiograph.path, self.limits)
            with self.turns:
                with timed(spent, "read"):
                    checksum = hashlib.sha256(data).hexdigest()
                with timed(spent, "decode"):
                    stream = self.offload.take(radiograph.path, data) if self.offload else None
                    if stream is None:
                        image = decode(data, self.contract, self.limits).image
            if stream is not None and self.offload is not None:
                image, spent["gpu"] = self.offload.decode(stream)
                if image is None:  # the host has the last word, and the words for what is wrong
                    with self.turns, timed(spent, "decode"):
                        image = decode(data, self.contract, self.limits).image
        except RadiographError as refused:
            if checksum is None:
                require_archive(self.root)
            error = refused
        return Loaded(
            image=image,
            error=error,
            checksum=checksum,
            read_s=spent["read"],
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
    """Threads to load with, and the turns of a `Loader` that lets `decoders` of them decode at a time.

    `waiting` are more of them, for radiographs that are with a GPU's decoder.
    """
    pool = ThreadPoolExecutor(decoders + READ_AHEAD + waiting, thread_name_prefix="load")
    return pool, Semaphore(decoders)


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
    load: Callable[[Radiograph], Loaded], radiographs: Sequence[Radiograph], pool: Executor, ahead: int
) -> Iterator[Loaded]:
    """What `load` makes of each radiograph, in their order, at most `ahead` of them beyond the one awaited."""
    window: deque[Future[Loaded]] = deque()
    try:
        for radiograph in radiographs:
            window.append(pool.submit(load, radiograph))
            if len(window) > ahead:
                yield window.popleft().result()
        while window:
            yield window.popleft().result()
    finally:
        for future in window:
            future.cancel()
