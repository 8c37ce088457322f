"""Decoded radiographs, kept on disk between trainings: one raw file of `uint8[R, S, S]` and a note that explains it.

Decoding takes longer than a small model does, and a training looks at every radiograph dozens of times. The pixels
come from the engine's own loader, so a model learns from what it will score. The folder of a cache is named by all
that decides its content, appears whole or not at all, and may be deleted at any time; what was not used for longest
makes room for new ones (kept.py). A second process that wants the same radiographs waits for the first.
"""

# R radiographs that could be used · S side of the picture

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mxbatch import __version__
from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.errors import CODES, EnvironmentFault, from_os_error
from mxbatch.engine.feed import Loader, load_ahead
from mxbatch.engine.plan import Radiograph
from mxbatch.trainer.kept import (
    BYTES,
    KEEP_GB,
    LOCK,
    NOTE,
    PIXELS,
    UNFINISHED,
    alone,
    clear,
    hold,
    make_room,
    used_now,
)

Wanted = tuple[tuple[str, ...], Radiograph]
"""The specimen's key, and one of its radiographs."""
Progress = Callable[[int, int], None]
"""Told how many radiographs are done, of how many."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """What became of radiographs that were asked for."""

    images: NDArray[np.uint8]
    """`[R, S, S]`, mapped from disk, read-only."""
    rows: NDArray[np.int64]
    """`[R]`: which of those asked for each image is, ascending."""
    refused: tuple[tuple[int, str, str], ...]
    """Position, code and reason of each radiograph that cannot be decoded."""


def decode_all(
    root: Path,
    wanted: Sequence[Wanted],
    contract: InputContract,
    *,
    folder: Path,
    threads: int | None = None,
    keep_gb: float = KEEP_GB,
    progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
) -> Decoded:
    """The radiographs `wanted` of the archive `root`, from the cache below `folder` or decoded into it.

    One that is a specimen's for the second time (same view, same bytes) is left out, as in scoring. `threads` is one
    per core by default. Before anything is decoded, other sets in the cache go until all of it will have `keep_gb` GB
    at most; `note` is told which. Raises EnvironmentFault: MX-E001 or MX-E002 when the archive is gone, MX-E004 or
    MX-E005 when the cache cannot be written.
    """
    cache = folder / name_of(root, wanted, contract)
    lock, scratch = cache.with_suffix(LOCK), cache.with_suffix(UNFINISHED)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with alone(lock):
            used_now(lock)
            known = _read(cache, contract.size)
            if known is None:
                clear(scratch)
                need = len(wanted) * contract.size**2
                make_room(folder, need, int(keep_gb * BYTES), note or (lambda line: None))
                scratch.mkdir()
                try:
                    loader = Loader(root=root, contract=contract, limits=Limits())
                    _decode_into(scratch, wanted, loader, threads or _cores(), progress or _nobody)
                    clear(cache)
                    scratch.rename(cache)
                finally:
                    clear(scratch)
                known = _read(cache, contract.size, trust=True)
    except OSError as error:
        raise from_os_error(error, cache) from error
    if known is None:
        raise EnvironmentFault("MX-E005", "it reads differently from what was written", path=cache)
    return known


def name_of(root: Path, wanted: Sequence[Wanted], contract: InputContract) -> str:
    """32 hex digits that change with the files, whose they are, the contract, and this library."""
    return digest_of(__version__, str(root), *files_of(wanted), json.dumps(contract.as_dict()))


def files_of(wanted: Sequence[Wanted]) -> Iterator[str]:
    """One line per radiograph: whose, which view, and the file as the index saw it."""
    for key, file in wanted:
        yield "\t".join((*key, str(file.view), file.path, str(file.size), str(file.mtime_ns)))


def digest_of(*parts: str | bytes) -> str:
    """32 hex digits over `parts`, in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(os.fsencode(part) + b"\0")  # a path of the disk need not be UTF-8
    return digest.hexdigest()


def _decode_into(
    folder: Path, wanted: Sequence[Wanted], loader: Loader, threads: int, progress: Progress
) -> None:
    """Fill the empty `folder`. The note comes last."""
    rows: list[int] = []
    refused: list[tuple[int, str, str]] = []
    seen: set[tuple[tuple[str, ...], str | None, str | None]] = set()
    with ThreadPoolExecutor(threads, "decoder") as pool, (folder / PIXELS).open("wb") as file:
        loaded = load_ahead(loader.load, [radiograph for _, radiograph in wanted], pool, ahead=4 * threads)
        for number, ((key, radiograph), one) in enumerate(zip(wanted, loaded, strict=True)):
            picture = (key, radiograph.view, one.checksum)
            if one.error is not None:
                refused.append((number, one.error.code, one.error.what))
            elif one.image is not None and picture not in seen:
                seen.add(picture)
                rows.append(number)
                file.write(one.image.tobytes())
            progress(number + 1, len(wanted))
        file.flush()
        os.fsync(file.fileno())
    note = {"wanted": len(wanted), "rows": rows, "refused": refused}
    (folder / NOTE).write_text(json.dumps(note), encoding="utf-8")


def _read(cache: Path, size: int, *, trust: bool = False) -> Decoded | None:
    """The cache; None where there is none, where it is damaged, and where a file may be readable by now."""
    try:
        note = json.loads((cache / NOTE).read_text(encoding="utf-8"))
        rows = np.array(note["rows"], np.int64)
        refused = tuple((int(number), str(code), str(why)) for number, code, why in note["refused"])
        passing = any(CODES[code].transient for _, code, _ in refused)
        shape = (len(rows), size, size)
        with (cache / PIXELS).open("rb") as file:
            if os.fstat(file.fileno()).st_size != math.prod(shape) or (passing and not trust):
                return None
            hold(file)
            empty = np.empty(shape, np.uint8)  # nothing cannot be mapped
            images = np.memmap(file, np.uint8, "r", shape=shape) if len(rows) else empty
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Decoded(images=images, rows=rows, refused=refused)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _nobody(done: int, all: int) -> None:
    pass
