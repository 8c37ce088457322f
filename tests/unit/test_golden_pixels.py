"""The pixels that a model sees, kept as numbers: preprocessing is part of every model, so it must not drift.

`pytest tests/unit/test_golden_pixels.py --renew` rewrites the file; models trained before are then other models,
and the commit says why it had to be. Two grey levels are allowed, for decoders of other versions.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.radiograph import decode
from mxbatch.engine.drawing import draw_radiograph
from mxbatch.engine.file_formats import FILE_FORMATS

GOLDEN = Path(__file__).parents[1] / "golden" / "pixels_224.csv"
GRID = np.linspace(12, 211, 5).astype(int)


def samples(radiographs: Path) -> dict[str, list[float]]:
    """Mean, spread and 25 pixels of each radiograph at the default contract."""
    files = {path.name: path.read_bytes() for path in sorted(radiographs.glob("*.jpg"))}
    drawn = draw_radiograph("dv", seed=1)
    files |= {f"drawn.{name}": encode(drawn) for name, encode in FILE_FORMATS.items()}
    table = {}
    for name, data in files.items():
        image = decode(data, InputContract(), Limits()).image
        pixels = image[np.ix_(GRID, GRID)].ravel().tolist()
        table[name] = [round(float(image.mean()), 2), round(float(image.std()), 2), *pixels]
    return table


def test_the_pixels_are_those_of_the_golden_file(radiographs: Path, request: pytest.FixtureRequest) -> None:
    found = samples(radiographs)
    if request.config.getoption("--renew"):
        with GOLDEN.open("w", newline="") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(["file", "mean", "std", *(f"y{y}x{x}" for y in GRID for x in GRID)])
            writer.writerows([name, *values] for name, values in found.items())
    with GOLDEN.open() as handle:
        golden = {row[0]: [float(value) for value in row[1:]] for row in list(csv.reader(handle))[1:]}
    assert set(found) == set(golden)
    for name, values in golden.items():
        assert np.allclose(found[name], values, atol=2, rtol=0), name
