"""One animal of an archive: its radiographs on disk, and the rows about it.

This is what a worker does. It needs nothing but the orders for the whole archive and the animal itself, whose random
numbers are a stream of its own: so it does not matter who draws it, or when.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mxbatch.engine.archive.views import VIEWS
from mxbatch.engine.file_formats import FILE_FORMATS, SUFFIXES
from mxbatch.trainer.phantom.centres import Centre, named_centres
from mxbatch.trainer.phantom.findings import FINDINGS
from mxbatch.trainer.phantom.mouse import grow
from mxbatch.trainer.phantom.scores import Scorer, answer
from mxbatch.trainer.phantom.shot import Nuisance, shoot
from mxbatch.trainer.phantom.specimens import Specimen, choose_specimens

IMAGE_COLUMNS = (
    "observation_id",
    "download_file_path",
    "phenotyping_center",
    "pipeline_stable_id",
    "procedure_stable_id",
    "parameter_stable_id",
    "external_sample_id",
    "date_of_experiment",
    "colony_id",
    "gene_symbol",
    "allele_symbol",
    "zygosity",
    "sex",
    "biological_sample_group",
    "age_in_weeks",
    "metadata_group",
)
PARAMETERS = {
    "dv": "IMPC_XRY_034_001",
    "lv": "IMPC_XRY_048_001",
    "forepaw": "IMPC_XRY_049_001",
    "skull_lv": "IMPC_XRY_050_001",
    "skull_dv": "IMPC_XRY_051_001",
    "hind_leg": "IMPC_XRY_052_001",
}
"""View -> the parameter that IMPC files it under."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Orders:
    """All that decides an archive, as it travels to the workers."""

    seed: int
    specimens: int
    prevalence: float
    class_share: float
    crowded: float
    centres: tuple[str, ...]
    size: int | None
    nuisance: Nuisance
    scorer: Scorer


@dataclass(frozen=True, slots=True)
class Drawn:
    """What one specimen left in the archive's tables; its files are written."""

    number: int
    images: tuple[tuple[str, ...], ...]
    """Rows of `IMAGE_COLUMNS`."""
    answers: Mapping[str, str | float]
    """Parameter id -> what the scorer wrote."""


def animals_of(orders: Orders) -> tuple[Specimen, ...]:
    """The animals that `orders` ask for."""
    return choose_specimens(
        orders.specimens,
        seed=orders.seed,
        prevalence=orders.prevalence,
        centres=named_centres(orders.centres),
        nodes={finding.name: finding.node for finding in FINDINGS.values()},
        class_share=orders.class_share,
        crowded=orders.crowded,
    )


def draw_animal(root: Path, orders: Orders, specimen: Specimen) -> Drawn:
    """Draw one animal in all its views, write the files below `root` and give the rows about them."""
    growth, choices, film, scoring = np.random.SeedSequence((orders.seed, specimen.number)).spawn(4)
    mouse = grow(specimen.findings, sex=specimen.sex, seed=int(growth.generate_state(1)[0]))
    rng, scorer = np.random.default_rng(choices), np.random.default_rng(scoring)
    shots = np.random.Generator(np.random.SFC64(film))  # the fastest, and noise takes much of the time
    images = []
    for view in _views(specimen.centre, rng, orders.nuisance):
        shown = _shown(view, rng, orders.nuisance)
        picture = shoot(mouse, shown, specimen.centre, shots, orders.nuisance, orders.size)
        media = str(100_000 + specimen.number * len(VIEWS) + VIEWS.index(view))
        path = _path(specimen.centre, view, media)
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(FILE_FORMATS[specimen.centre.format](picture))
        images.append(_image_row(specimen, view, media, path))
    tibia = float(np.linalg.norm(mouse.landmarks["right_knee"] - mouse.landmarks["right_ankle"]))
    answers = answer(specimen, orders.scorer, scorer, tibia_mm=tibia)
    return Drawn(specimen.number, tuple(images), answers)


def _views(centre: Centre, rng: np.random.Generator, nuisance: Nuisance) -> list[str]:
    """The views that were taken and not lost; at least one."""
    taken = [view for view, share in centre.views.items() if rng.random() < share]
    kept = [view for view in taken if rng.random() >= nuisance.missing_view]
    return kept or taken[:1] or [next(iter(centre.views))]


def _shown(view: str, rng: np.random.Generator, nuisance: Nuisance) -> str:
    """What the file under `view` shows: nearly always that."""
    if rng.random() >= nuisance.wrong_view:
        return view
    return str(rng.choice([other for other in VIEWS if other != view]))


def _path(centre: Centre, view: str, media: str) -> Path:
    return Path(
        centre.name, centre.pipeline, centre.procedure, PARAMETERS[view], f"{media}.{SUFFIXES[centre.format]}"
    )


def _image_row(specimen: Specimen, view: str, media: str, path: Path) -> tuple[str, ...]:
    return (
        f"phantom-{media}",
        path.as_posix(),
        specimen.centre.name,
        specimen.centre.pipeline,
        specimen.centre.procedure,
        PARAMETERS[view],
        specimen.specimen_id,
        f"{specimen.date_of_experiment}T00:00:00Z",
        specimen.colony_id,
        specimen.gene_symbol,
        specimen.allele_symbol,
        specimen.zygosity,
        specimen.sex,
        specimen.group,
        str(specimen.age_weeks),
        specimen.metadata_group,
    )
