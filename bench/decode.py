"""How fast is decoding, per format, on one core? `mxbatch bench decode FOLDER`.

Beside the engine's own way stands the one that everybody begins with: Pillow (pydicom for DICOM) decodes the whole
picture and resizes it. And above both stands a limit, where there is one: for JPEG the bare decoder at the size that
the engine asks it for, which is bound by the entropy code; for files that are not compressed a single pass over their
bytes. Pictures of a format are measured in turn, engine, naive and limit one after the other, so that a
neighbour on the machine slows all three.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mxbatch.bench.data import describe, format_of
from mxbatch.bench.naive import naive
from mxbatch.bench.result import Figure, Result, Subject, Table, rates
from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.jpeg import read_jpeg
from mxbatch.engine.decode.radiograph import decode

UNCOMPRESSED = 0.9
"""Bytes per pixel from which on a file is taken to hold its picture as it is."""


COLUMNS = ("format", "megapixels", "ms", "ms, naive", "times naive", "megapixels/s", "MB/s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The files of one format."""

    format: str
    files: tuple[bytes, ...]
    pixels: int
    """Of all of them."""

    @property
    def bytes_per_pixel(self) -> float:
        return sum(map(len, self.files)) / self.pixels


def measure_decode(sources: Sequence[Path], *, size: int, rounds: int, seconds: float) -> Result:
    """Engine, naive and limit over `sources`, `rounds` times; the naive way takes about `seconds` per round and format.

    Raises RadiographError for a file that cannot be decoded.
    """
    contract = InputContract(size=size)
    figures: dict[str, Figure] = {}
    shares: dict[str, float] = {}
    rows = []
    for name in sorted({format_of(path) or "" for path in sources}):
        sample = _sample(name, [path.read_bytes() for path in sources if format_of(path) == name], contract)
        speed = _rates(sample, contract, rounds, seconds)
        figures |= {f"{name}, {way}": rates(values) for way, values in speed.items()}
        if "limit" in speed:
            shares[f"{name}, mxbatch of limit"] = _ratio(speed["mxbatch"], speed["limit"])
        rows.append(_row(sample, speed))
    return Result(
        kind="decode",
        what="bytes in memory to the model's picture, one thread; naive: Pillow or pydicom at full size, then resized",
        subject=Subject(size=size),
        figures=figures,
        shares=shares,
        tables={"per radiograph": Table(columns=COLUMNS, rows=tuple(rows))},
        data=describe(sources, len(sources)),
    )


def _sample(name: str, files: Sequence[bytes], contract: InputContract) -> Sample:
    decoded = [decode(data, contract, Limits()) for data in files]
    return Sample(
        format=name,
        files=tuple(files),
        pixels=sum(picture.width * picture.height for picture in decoded),
    )


def _rates(sample: Sample, contract: InputContract, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Radiographs/s of every way, round by round, the ways in turn."""
    ways: dict[str, Callable[[bytes], Any]] = {
        "mxbatch": lambda data: decode(data, contract, Limits()),
        "naive": lambda data: naive(data, contract.size),
    }
    if least := least_of(sample, contract):
        ways["limit"] = least
    repeats = max(1, round(seconds / timed(ways["naive"], sample.files)))
    speed: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, work in ways.items():
            seconds_each = statistics.fmean(timed(work, sample.files) for _ in range(repeats))
            speed[way].append(len(sample.files) / seconds_each)
    return speed


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Taken within each round, then the median."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def _row(sample: Sample, speed: dict[str, list[float]]) -> tuple[Any, ...]:
    rate, plain = (statistics.median(speed[way]) for way in ("mxbatch", "naive"))
    megapixels = sample.pixels / len(sample.files) / 1e6
    return (
        sample.format,
        round(megapixels, 2),
        round(1000 / rate, 3),
        round(1000 / plain, 3),
        round(_ratio(speed["mxbatch"], speed["naive"]), 2),
        round(rate * megapixels),
        round(rate * megapixels * sample.bytes_per_pixel),
    )


def timed(work: Callable[[bytes], Any], files: Sequence[bytes]) -> float:
    """Seconds for `work` over all of `files`."""
    started = time.perf_counter()
    for data in files:
        work(data)
    return time.perf_counter() - started


def least_of(sample: Sample, contract: InputContract) -> Callable[[bytes], Any] | None:
    """The least that a format costs, or None where nothing simple bounds it from below."""
    if sample.format == "jpeg":
        return lambda data: read_jpeg(data, contract, Limits())
    if sample.format != "png" and sample.bytes_per_pixel >= UNCOMPRESSED:
        return lambda data: np.frombuffer(data, np.uint64, len(data) // 8).sum()
    return None
