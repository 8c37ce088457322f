"""Before a run decodes on a GPU: are the pictures the host's, is what is damaged refused, and how fast is either side?

Radiographs of the run itself are tried, and drawn ones, in a process of their own (apart.py). A kind of stream passes
through the gate or stays with the host, and the reason is told.
"""

# P pictures · S side

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.radiograph import decode, read_bytes
from mxbatch.engine.errors import RadiographError
from mxbatch.engine.offload.batches import BATCH, Batches, Codec, GpuBatches
from mxbatch.engine.offload.nvimagecodec import ENGINES, NvImageCodec
from mxbatch.engine.offload.streams import JPEG, Stream, stream_of

MEAN, MOST = 0.5, 3
"""Grey levels by which a picture may differ from the host's: on average, and at 99 of 100 pixels.

A JPEG reduced by means of blocks, and not by the inverse DCT, was off by up to 0.33 and 2 (real radiographs at 224 and
384 pixels, drawn ones down to half their size); decoders round differently, by one level before the window stretches
them. Without those blocks it is up to 1.0 and 18: the gate would show it. The last percent is left out because at the
lower and right edge the host averages what the encoder filled up its blocks with.
"""
OTHER = "other"
"""The kind of all that only the host decodes."""
LEAST = 4
"""Radiographs of a kind among those tried; with fewer it is rare, and nothing is known of it."""
KEPT = 32
"""Of a kind, in memory."""
MEASURE_S = 0.5
DRAWN = 3

Note = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What is to be tried, and where."""

    root: Path
    paths: tuple[str, ...]
    """Some radiographs of the run, under `root`."""
    contract: InputContract
    limits: Limits
    device: str
    threads: int
    """Decoder threads of a worker."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """What came of one kind."""

    count: int
    """Radiographs of it among those tried."""
    host_per_s: float
    engine: str = ""
    """Of the GPU's, the fastest that passed through the gate; empty where none did."""
    gpu_per_s: float = 0.0


@dataclass(slots=True)
class Group:
    """The usable radiographs of one kind, with the pictures that the host makes of them; `KEPT` at most."""

    count: int = 0
    """As many as there were."""
    files: list[bytes] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    pictures: list[NDArray[np.uint8]] = field(default_factory=list)


def try_offload(
    order: Order, note: Note, open_codec: Callable[[str, str], Codec] = NvImageCodec
) -> dict[str, Tried]:
    """Every kind that was found, by name, `OTHER` among them. Fails by telling, not by raising."""
    found: dict[str, Tried] = {}
    groups = sort_out(_read(order), order.contract, order.limits)
    engines = dict(_opened(order.device, open_codec, note)) if groups.keys() - {OTHER} else {}
    for kind, group in groups.items():
        host_per_s = _host_rate(group.files, order)
        best, best_per_s = "", 0.0
        for engine, codec in engines.items() if len(group.streams) >= LEAST else ():
            batches = GpuBatches({kind: codec}, order.contract, order.device)
            if why := gate(kind, group, batches, order):
                note(f"{kind} is not decoded by the GPU's engine {engine!r}: {why}")
                continue
            per_s = _gpu_rate(batches, group.streams)
            if per_s > best_per_s:
                best, best_per_s = engine, per_s
        found[kind] = Tried(count=group.count, host_per_s=host_per_s, engine=best, gpu_per_s=best_per_s)
    return found


def sort_out(files: Iterable[bytes], contract: InputContract, limits: Limits) -> dict[str, Group]:
    """The files that the host can decode, by kind. What it cannot is no matter of speed."""
    groups: dict[str, Group] = {}
    for data in files:
        try:
            picture = decode(data, contract, limits).image
        except RadiographError:
            continue
        stream = stream_of(data, contract, limits)
        group = groups.setdefault(stream.kind if stream else OTHER, Group())
        group.count += 1
        if group.count > KEPT:
            continue
        group.files.append(data)
        if stream:
            group.streams.append(stream)
            group.pictures.append(picture)
    return groups


def gate(kind: str, group: Group, batches: Batches, order: Order) -> str | None:
    """Why the GPU's pictures of `kind` are not to be used, or None."""
    group = _with_drawn(group, order) if kind == JPEG else group
    together = batches.decode(group.streams)
    pairs = [(p, q) for p, q in zip(together, group.pictures, strict=True) if p is not None]
    if len(pairs) < LEAST:
        return f"it decodes {len(pairs)} of {len(group.streams)} radiographs"
    mean, most = (max(each) for each in zip(*(difference(p, q) for p, q in pairs), strict=True))
    if mean > MEAN or most > MOST:
        return (
            f"a picture differs from the host's by {mean:.2g} grey levels on average and {most:.2g} at 99 of 100 "
            f"pixels, allowed are {MEAN:g} and {MOST}"
        )
    for stream, before in zip(group.streams[:LEAST], together, strict=False):
        (alone,) = batches.decode([stream])
        if not _same(alone, before):
            return "a picture depends on what else is in its batch"
    for data in _damaged(group, order):
        broken = stream_of(data, order.contract, order.limits)
        if broken is not None and batches.decode([broken])[0] is not None:
            return "it takes a damaged file for a picture"
    return None


def _same(one: NDArray[np.uint8] | None, other: NDArray[np.uint8] | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)


def difference(picture: NDArray[np.uint8], other: NDArray[np.uint8]) -> tuple[float, float]:
    """Grey levels between two pictures: on average, and at the 99th percentile of pixels."""
    apart = np.abs(picture.astype(np.int16) - other)
    return float(apart.mean()), float(np.percentile(apart, 99))


def _with_drawn(group: Group, order: Order) -> Group:
    """And drawn radiographs, so that JPEG is never judged by one scanner's files alone."""
    more = sort_out(_drawn(), order.contract, order.limits).get(JPEG, Group())
    return Group(
        group.count + more.count,
        group.files + more.files,
        group.streams + more.streams,
        group.pictures + more.pictures,
    )


@cache
def _drawn() -> tuple[bytes, ...]:
    """JPEGs of a few drawn radiographs, of sizes that end within a block."""
    from mxbatch.engine.drawing import draw_radiograph
    from mxbatch.engine.file_formats import FILE_FORMATS

    pictures = (draw_radiograph("dv", seed=n, height=1100 + n, width=700 + 9 * n) for n in range(DRAWN))
    return tuple(map(FILE_FORMATS["jpeg"], pictures))


def _damaged(group: Group, order: Order) -> list[bytes]:
    """A file of the group with half of its codestream gone, and with a hole in it, as far as the host refuses them.

    Both end as they should, so that nothing but their decoding shows the damage. The host's JPEG decoder sees both.
    """
    data, stream = group.files[0], group.streams[0].data
    size = len(stream)
    cut = (stream[: size // 2] + b"\xff\xd9").ljust(size, b"\0")
    hole = stream[: size // 2] + bytes(size // 4) + stream[size // 2 + size // 4 :]
    return [
        broken
        for broken in (data.replace(stream, cut), data.replace(stream, hole))
        if broken != data and _refused(broken, order)
    ]


def _refused(data: bytes, order: Order) -> bool:
    try:
        decode(data, order.contract, order.limits)
    except RadiographError:
        return True
    return False


def _read(order: Order) -> Iterable[bytes]:
    for path in order.paths:
        try:
            yield read_bytes(order.root / path, order.limits)
        except RadiographError:  # the run will say it
            continue


def _opened(device: str, open_codec: Callable[[str, str], Codec], note: Note) -> Iterable[tuple[str, Codec]]:
    for engine in ENGINES:
        try:
            yield engine, open_codec(device, engine)
        except Exception as error:  # a library's exceptions have no common base; all mean the same
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            note(f"nvImageCodec's engine {engine!r} cannot be used here: {reason}")


def _host_rate(files: Sequence[bytes], order: Order) -> float:
    """Radiographs per second of the decoder threads together."""
    with ThreadPoolExecutor(order.threads) as pool:
        return _rate(
            len(files), lambda: list(pool.map(lambda data: decode(data, order.contract, order.limits), files))
        )


def _gpu_rate(batches: Batches, streams: Sequence[Stream]) -> float:
    """Radiographs per second in full batches; those that it leaves to the host count as nothing done."""
    full = [streams[n % len(streams)] for n in range(BATCH)]
    done = sum(picture is not None for picture in batches.decode(full))
    return _rate(done, lambda: batches.decode(full))


def _rate(count: int, work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    rounds = 0
    while rounds == 0 or time.perf_counter() - begun < MEASURE_S:
        work()
        rounds += 1
    return count * rounds / (time.perf_counter() - begun)
