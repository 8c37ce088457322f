"""Archives to measure on: any number of radiographs, made of the few that are at hand.

A benchmark wants thousands of radiographs, and what can be shared is a handful. So every file is copied once and then
linked under new names, in turn, three to a specimen as in IMPC's corpus (170,958 radiographs of 54,046 specimens). To
the engine they are different files; to the disk they are few, so reading comes from memory and is reported apart.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from mxbatch.engine.decode.sniff import HEAD_BYTES, sniff
from mxbatch.engine.errors import UsageError

VIEWS = ("dv", "lv", "skull_dv")
"""Of the radiographs of one specimen."""
SUFFIXES = {"jpeg": ".jpg", "png": ".png", "bmp": ".bmp", "tiff": ".tif", "dicom": ".dcm"}
"""Format -> the suffix that other libraries know it by."""
FOLDER = "radiographs"


def format_of(path: Path) -> str | None:
    """A key of `FORMATS`, told by the first bytes; None for anything but a radiograph."""
    with path.open("rb") as file:
        return sniff(file.read(HEAD_BYTES))


def radiographs_in(folder: Path, formats: Collection[str] = ()) -> list[Path]:
    """The radiographs under `folder`, sorted by name; only those of `formats` where some are named.

    Raises UsageError MX-U001 where there is none.
    """
    if unknown := sorted(set(formats) - set(SUFFIXES)):
        raise UsageError("MX-U001", f"there is no format {unknown[0]!r}; known are {', '.join(SUFFIXES)}")
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    wanted = formats or SUFFIXES
    found = [path for path in files if format_of(path) in wanted]
    if not found:
        raise UsageError("MX-U001", f"no radiograph ({', '.join(wanted)}) in it", path=folder)
    return found


def draw_phantoms(folder: Path, specimens: int = 20, size: int | None = None) -> Path:
    """Phantoms in the formats and frames of ten centres, for whoever has no radiographs at hand."""
    from mxbatch.trainer.phantom.archive import draw_archive
    from mxbatch.trainer.phantom.shot import Nuisance

    draw_archive(folder, specimens=specimens, seed=0, size=size, nuisance=Nuisance.none(), workers=1)
    return folder


def lay_out(sources: Sequence[Path], root: Path, radiographs: int) -> Path:
    """Fill the new folder `root` with `radiographs` files made of `sources` in turn, and the table that names them.

    Radiographs are in `root/radiographs`, numbered. Returns `root`.
    """
    home = root / FOLDER
    home.mkdir(parents=True)
    first: dict[Path, Path] = {}
    rows = []
    for number in range(radiographs):
        source = sources[number % len(sources)]
        target = home / f"{number:07d}{_suffix(source)}"
        _link(first.setdefault(source, target), source, target)
        specimen, view = divmod(number, len(VIEWS))
        rows.append((target.relative_to(root).as_posix(), f"mouse-{specimen:07d}", VIEWS[view]))
    with (root / "index.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "specimen", "view"), *rows])
    return root


def describe(sources: Iterable[Path], radiographs: int) -> dict[str, Any]:
    """For the result file: how many radiographs there were, of how many different ones, in which formats."""
    files = list(sources)
    return {
        "radiographs": radiographs,
        "distinct_files": distinct_contents(files),
        "formats": dict(Counter(format_of(path) or "" for path in files)),
        "mean_bytes": round(sum(path.stat().st_size for path in files) / len(files)),
    }


def distinct_contents(paths: Iterable[Path]) -> int:
    """How many of the files differ in their bytes."""
    found = set()
    for path in paths:
        with path.open("rb") as file:
            found.add(hashlib.file_digest(file, "sha256").digest())
    return len(found)


def _suffix(path: Path) -> str:
    return path.suffix.lower() or SUFFIXES[format_of(path) or "dicom"]


def _link(first: Path, source: Path, target: Path) -> None:
    """`target` as another name of `first`; a copy of `source` where that has no name yet, or no more to give."""
    try:
        os.link(first, target) if first.exists() else shutil.copyfile(source, target)
    except OSError as error:
        if error.errno != errno.EMLINK:
            raise
        shutil.copyfile(source, target)
