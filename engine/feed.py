"""Radiographs, read and decoded ahead of the model: the front half of the hot path.

Threads do it, because every decoder that matters lets go of the GIL. There are more of them than may decode at a
time: while those do, the others wait for the disk, or for the server of a network file system, so that what takes its
time to arrive is already here. The look-ahead is bounded, so memory depends on its length and not on the archive's.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Semaphore

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.radiograph import decode, read_bytes
from mxbatch.engine.errors import EnvironmentFault, RadiographError
from mxbatch.engine.plan import Radiograph

READ_AHEAD = 4
"""Files that a worker reads, or has read, beside those that it decodes: enough to hide a server's answer, and few
enough that the bytes of large files do not add up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """One radiograph as the model wants it, `image: uint8[S, S]`, or the error that stands in its place."""

    image: NDArray[np.uint8] | None = None
    error: RadiographError | None = None
    checksum: str | None = None
    """SHA-256 of the file's bytes, in hex; None where they could not be read."""
    read_s: float = 0.0
    decode_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """Reads and decodes single radiographs of one archive. Safe to call from several threads."""

    root: Path
    contract: InputContract
    limits: Limits
    turns: AbstractContextManager[object] = field(default_factory=nullcontext)
    """Held while the bytes of a file keep a core busy; a semaphore where there are more threads than cores."""

    def load(self, radiograph: Radiograph) -> Loaded:
        """Never raises for a bad radiograph. Raises EnvironmentFault (MX-E001) when the archive itself is gone."""
        began = time.perf_counter()
        checksum = None
        read_s = decode_s = 0.0
        try:
            data = read_bytes(self.root / radiograph.path, self.limits)
            read_s = time.perf_counter() - began
            with self.turns:
                turn = time.perf_counter()
                checksum = hashlib.sha256(data).hexdigest()
                hashed = time.perf_counter()
                read_s += hashed - turn
                try:
                    image = decode(data, self.contract, self.limits).image
                finally:
                    decode_s = time.perf_counter() - hashed
        except RadiographError as error:
            if checksum is None:
                require_archive(self.root)
            return Loaded(error=error, checksum=checksum, read_s=read_s, decode_s=decode_s)
        return Loaded(image=image, checksum=checksum, read_s=read_s, decode_s=decode_s)


def loader_pool(decoders: int) -> tuple[ThreadPoolExecutor, Semaphore]:
    """Threads to load with, and the turns of a `Loader` that lets `decoders` of them decode at a time."""
    pool = ThreadPoolExecutor(decoders + READ_AHEAD, thread_name_prefix="load")
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
