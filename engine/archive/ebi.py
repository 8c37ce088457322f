"""The EBI mirror's layout: `<centre>/<pipeline>/<procedure>/<parameter>/<file>`.

The pattern is met from the end of the path, so a release folder above it (`dr_15/`) does not matter, and the
root may be any folder of the mirror: what is missing below it is taken from the folders that lead to it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

CENTRES = (
    "BCM", "CCP-IMG", "HMGU", "ICS", "JAX", "KMPC", "MARC", "MRC Harwell", "NING", "RBRC", "TCP", "UC Davis",
    "WTSI",
)  # fmt: skip
"""The mirror's names. They matter only above the root, where any folder might stand in a centre's place."""

_PIPELINE = re.compile(r"[A-Z0-9-]+_\d{3}")
_PROCEDURE = re.compile(r"[A-Z0-9-]+_([A-Z0-9]{3})_\d{3}")
_PARAMETER = re.compile(r"[A-Z0-9-]+_([A-Z0-9]{3})_\d{3}_\d{3}")
_XRAY = "XRY"


class Place(NamedTuple):
    """What the folders of the mirror say about a file; empty where they do not."""

    centre: str = ""
    pipeline: str = ""
    procedure: str = ""
    parameter: str = ""


def place_of(folder: str, outer: Sequence[str] = ()) -> Place | None:
    """The place of the files in `folder`, a path from the root; None outside the layout.

    `outer` are the names of the folders down to the root: `("data", "MRC Harwell")` for `/data/MRC Harwell`.
    """
    inner = folder.split("/") if folder else []
    names = ["", "", *outer, *inner]
    if len(names) < 4 or _code(_PROCEDURE, names[-2]) != _XRAY or _code(_PARAMETER, names[-1]) != _XRAY:
        return None
    centre, pipeline, procedure, parameter = names[-4:]
    if len(inner) < 3 and not _PIPELINE.fullmatch(pipeline):
        pipeline = ""
    if len(inner) < 4 and not (pipeline and centre in CENTRES):
        centre = ""
    return Place(centre, pipeline, procedure, parameter)


def of_another_procedure(parent: str, name: str) -> bool:
    """True for a parameter's folder of another procedure than X-ray, as `IMPC_EYE_001/IMPC_EYE_050_001`."""
    code = _code(_PARAMETER, name)
    return code is not None and code != _XRAY and code == _code(_PROCEDURE, parent)


def _code(pattern: re.Pattern[str], name: str) -> str | None:
    match = pattern.fullmatch(name)
    return match[1] if match else None
