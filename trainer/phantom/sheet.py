"""Contact sheets for docs/phantoms.md: `python -m mxbatch.trainer.phantom.sheet REAL_FOLDER FOLDER`.

Looking is the only test of likeness. `compare` lays real radiographs over phantoms, taken at the same scale and
prepared by the engine's own decoder; `show_findings` lays a normal animal of each class beside the same animal with
one finding.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.radiograph import decode, read_bytes
from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.file_formats import FILE_FORMATS
from mxbatch.trainer.phantom.centres import named_centres
from mxbatch.trainer.phantom.film import Look, expose
from mxbatch.trainer.phantom.findings import FINDINGS
from mxbatch.trainer.phantom.mouse import Mouse, grow
from mxbatch.trainer.phantom.project import project
from mxbatch.trainer.phantom.shot import Nuisance, shoot

Tile = NDArray[np.uint8]
"""`uint8[S, S]`, as a model would see it."""
Captioned = tuple[str, Tile]


class Window(NamedTuple):
    """A square look at an animal."""

    view: str
    between: tuple[str, str]
    """Its middle lies between these two landmarks."""
    width_mm: float
    turn: float = 0.0
    """Degrees counter-clockwise."""
    flip: bool = False
    seed: int = 3
    """The animal, where a finding is shown: its seed decides on which side the finding is."""


REAL = {
    "whole_body_dv_*.jpg": Window("dv", ("xiphoid", "tail_base"), 125.0, turn=38.0),
    "skull_dv_*.jpg": Window("skull_dv", ("nose", "nape"), 25.0, turn=40.0),
    "forepaw_*.jpg": Window("forepaw", ("right_elbow", "right_wrist"), 25.0, turn=10.0, flip=True),
}
"""Real radiographs and how they are framed: at full size, or magnified five times."""

ELSEWHERE = (
    ("MRC Harwell", "dv"),
    ("UC Davis", "dv"),
    ("JAX", "lv"),
    ("TCP", "lv"),
    ("BCM", "skull_lv"),
    ("KMPC", "hind_leg"),
)
"""Centres and views of which there is no real radiograph to compare with."""

TELLING = {
    "domed_skull": Window("skull_lv", ("nape", "nose"), 36.0),
    "overgrown_incisors": Window("skull_lv", ("nose", "chin"), 24.0),
    "hemivertebra": Window("dv", ("manubrium", "tail_base"), 60.0),
    "fused_lumbar_vertebrae": Window("dv", ("xiphoid", "tail_base"), 36.0),
    "scoliosis": Window("dv", ("nose", "tail_base"), 110.0),
    "fused_ribs": Window("dv", ("manubrium", "xiphoid"), 34.0),
    "narrow_pelvis": Window("dv", ("left_hip", "right_hip"), 36.0),
    "bowed_tibia": Window("hind_leg", ("right_knee", "right_ankle"), 32.0),
    "dislocated_hip": Window("dv", ("left_hip", "right_hip"), 40.0),
    "extra_digit": Window("forepaw", ("right_wrist", "right_fingertip"), 14.0, seed=0),
}
"""A finding of each class, and where to look for it."""

TILE = 240
_CAPTION = 14
_PIXELS = 1024
_PER_VIEW = 2
_LOOK = Look(photons=40_000, blur=0.6, black=0.12, white=0.97)
"""As the real radiographs are exposed."""


def compare(real: Path, out: Path, *, seed: int = 0) -> None:
    """Draw three rows into the PNG `out`: real radiographs of the folder `real`, phantoms like them, and others.

    Raises EnvironmentFault (MX-E002) when `real` holds no radiograph of a kind that is wanted.
    """
    above: list[Captioned] = []
    below: list[Captioned] = []
    others: list[Captioned] = []
    for pattern, window in REAL.items():
        files = sorted(real.glob(pattern))[:_PER_VIEW]
        if not files:
            raise EnvironmentFault("MX-E002", f"no file is called {pattern}", path=real)
        for file in files:
            mouse = _normal(seed + len(above))
            above.append((f"real  {window.view}", _prepared(read_bytes(file, Limits()))))
            below.append((f"phantom  {window.view}", _look(mouse, mouse, window, seed)))
    rng = np.random.Generator(np.random.SFC64(seed))
    for name, view in ELSEWHERE:
        (centre,) = named_centres([name])
        mouse = _normal(seed + len(above) + len(others))
        picture = shoot(mouse, view, centre, rng, Nuisance(cropped=0, free_orientation=0))
        others.append((f"phantom  {view}  {name}", _prepared(FILE_FORMATS[centre.format](picture))))
    _sheet([*above, *below, *others], len(above)).save(out, optimize=True)


def show_findings(out: Path) -> None:
    """Draw one finding per class at its worst into the PNG `out`: a normal animal, then the same one with it."""
    tiles = []
    for name, window in TELLING.items():
        normal, abnormal = (grow(findings, sex="female", seed=window.seed) for findings in ({}, {name: 1.0}))
        tiles += [
            (f"{FINDINGS[name].node}: normal", _look(normal, normal, window, window.seed)),
            (f"{name}  {window.view}", _look(abnormal, normal, window, window.seed)),
        ]
    _sheet(tiles, 4).save(out, optimize=True)


def _normal(seed: int) -> Mouse:
    return grow(sex=("female", "male")[seed % 2], seed=seed)


def _look(mouse: Mouse, guide: Mouse, window: Window, seed: int) -> Tile:
    """`mouse` through `window`, whose place is taken from the landmarks of `guide`."""
    posture = guide.side if window.view in ("lv", "skull_lv") else guide.prone
    one, other = (posture.landmarks[name] for name in window.between)
    depth = project(
        mouse,
        window.view,
        height=_PIXELS,
        width=_PIXELS,
        pixels_per_mm=_PIXELS / window.width_mm,
        centre_mm=(one + other) / 2,
        rotation_deg=window.turn,
        flip=window.flip,
    )
    picture = expose(depth, _LOOK, np.random.Generator(np.random.SFC64(seed)))
    return _prepared(FILE_FORMATS["jpeg"](picture))


def _prepared(data: bytes) -> Tile:
    return decode(data, InputContract(size=TILE), Limits()).image


def _sheet(tiles: Sequence[Captioned], columns: int) -> Image.Image:
    """Tiles with their captions, row by row."""
    rows = -(-len(tiles) // columns)
    sheet = Image.new("L", (columns * TILE, rows * (TILE + _CAPTION)), 255)
    pen = ImageDraw.Draw(sheet)
    for number, (caption, tile) in enumerate(tiles):
        left, top = number % columns * TILE, number // columns * (TILE + _CAPTION)
        pen.text((left + 3, top + 1), caption, fill=0)
        sheet.paste(Image.fromarray(tile), (left, top + _CAPTION))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Draw phantoms.png and phantom_findings.png for the documents."
    )
    parser.add_argument("real", type=Path, help="folder of real radiographs")
    parser.add_argument("out", type=Path, help="folder for the two pictures")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    compare(arguments.real, arguments.out / "phantoms.png")
    show_findings(arguments.out / "phantom_findings.png")


if __name__ == "__main__":
    main()
