"""Lay the real radiographs out as a centre keeps them: `python tests/real_archive.py ARCHIVE [--radiographs N]`.

Eight IMPC radiographs (tests/data/radiographs, MIT) become an archive of four specimens in the EBI mirror's
layout, with `impc_images.csv` beside it. Which files belong to one animal is not known: the grouping, the ids
and the dates are made up here. With `--radiographs N` the same eight are repeated under new names (then as hard
links: do not write into them) until N are there.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
from itertools import count
from pathlib import Path

RADIOGRAPHS = Path(__file__).parent / "data" / "radiographs"

MICE = {
    "mouse-1": {"IMPC_XRY_034_001": "whole_body_dv_a", "IMPC_XRY_051_001": "skull_dv_a", "IMPC_XRY_049_001": "forepaw_a"},
    "mouse-2": {"IMPC_XRY_034_001": "whole_body_dv_b", "IMPC_XRY_051_001": "skull_dv_b", "IMPC_XRY_049_001": "forepaw_b"},
    "mouse-3": {"IMPC_XRY_034_001": "whole_body_dv_c"},
    "mouse-4": {"IMPC_XRY_034_001": "whole_body_dv_d"},
}  # fmt: skip

COLUMNS = [
    "observation_id",
    "full_resolution_file_path",
    "phenotyping_center",
    "pipeline_stable_id",
    "procedure_stable_id",
    "parameter_stable_id",
    "external_sample_id",
    "date_of_experiment",
    "sex",
    "biological_sample_group",
]


def build(root: Path, radiographs: int = 8, source: Path = RADIOGRAPHS) -> Path:
    """Fill `root` with `radiographs` files and their index; returns `root`."""
    rows: list[list[str]] = []
    for number in count():
        if len(rows) >= radiographs:
            break
        for mouse, views in MICE.items():
            specimen = mouse if number == 0 else f"{mouse}-{number:05d}"
            for parameter, name in views.items():
                path = Path("WTSI", "MGP_001", "MGP_XRY_001", parameter, f"{93_000 + len(rows)}.jpg")
                target = root / path
                target.parent.mkdir(parents=True, exist_ok=True)
                (shutil.copyfile if radiographs <= 8 else os.link)(source / f"{name}.jpg", target)
                place = [path.as_posix(), *path.parts[:4]]
                mouse_and_day = [specimen, "2012-08-14T00:00:00Z", "female", "experimental"]
                rows.append([f"observation-{len(rows)}", *place, *mouse_and_day])
    with (root / "impc_images.csv").open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([COLUMNS, *rows])
    return root


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path)
    parser.add_argument("--radiographs", type=int, default=8)
    arguments = parser.parse_args()
    print(build(arguments.archive, arguments.radiographs))
