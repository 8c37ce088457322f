"""What a scorer writes about a phantom: the answers to IMPReSS's questions, and where they differ from the truth.

The table has the field names of IMPC's Solr core `experiment`, a row per specimen and parameter, so that labels are
read from phantoms by the code that reads them from a real archive. Words, counts and what counts as abnormal come
from the engine's taxonomy; which answers a finding changes comes from findings.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from hashlib import md5
from typing import Self

import numpy as np

from mxbatch.engine.errors import UsageError
from mxbatch.engine.taxonomy import Parameter, read_taxonomy
from mxbatch.trainer.phantom.centres import Centre
from mxbatch.trainer.phantom.findings import FINDINGS
from mxbatch.trainer.phantom.specimens import Specimen

COLUMNS = (
    "observation_id",
    "external_sample_id",
    "phenotyping_center",
    "pipeline_stable_id",
    "procedure_stable_id",
    "parameter_stable_id",
    "parameter_name",
    "observation_type",
    "category",
    "data_point",
    "date_of_experiment",
    "colony_id",
    "biological_sample_group",
    "sex",
    "zygosity",
    "metadata_group",
)
CORE = 31
"""Parameters 001 to 031 are the first set, and those but the counts are required."""
CAUDAL = "IMPC_XRY_017"
IMAGE_ONLY, UNOBSERVABLE = "imageOnly", "unobservable"

_OBSERVATION_TYPES = {"category": "categorical", "count": "unidimensional", "length": "unidimensional"}
_PLAIN, _FAINT = 0.7, 0.3
"""From `_PLAIN` on a finding is never missed; at `_FAINT` with the probability `Scorer.missed`."""
_RULER_MM = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Scorer:
    """How far answers are from the truth. Raises UsageError (MX-U001) for a rate outside 0 to 1."""

    missed: float = 0.1
    """A finding of severity 0.3 is not seen; falls to nothing at 0.7."""
    false_positive: float = 0.0002
    """Per parameter: something is seen that is not there."""
    image_only: float = 0.002
    """Per parameter: not scored."""
    unobservable: float = 0.002
    """Per parameter: could not be judged."""
    tail_tipped: float = 0.3
    """Share of the animals whose tail was tipped for genotyping: one to four vertebrae fewer."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 <= (rate := getattr(self, field.name)) <= 1:
                raise UsageError("MX-U001", f"scorer: {field.name} is a share from 0 to 1, got {rate:g}")

    @classmethod
    def perfect(cls) -> Self:
        """Sees all and answers all."""
        return cls(missed=0, false_positive=0, image_only=0, unobservable=0, tail_tipped=0)


@cache
def parameters() -> dict[str, Parameter]:
    """Every scored parameter of the built-in taxonomy, by id, in the order of the ids."""
    found = {parameter.id: parameter for node in read_taxonomy().nodes for parameter in node.parameters}
    return dict(sorted(found.items()))


def answer(
    specimen: Specimen, scorer: Scorer, rng: np.random.Generator, *, tibia_mm: float | None = None
) -> dict[str, str | float]:
    """Parameter id -> answer: a word, or a number for counts and lengths. What is not submitted is left out."""
    noticed = [
        name for name, severity in specimen.findings.items() if rng.random() >= missed(severity, scorer)
    ]
    changes = _changes(noticed)
    answers: dict[str, str | float] = {}
    for id, parameter in parameters().items():
        chance = rng.random(3)
        if not _asked(specimen.centre, id):
            if specimen.centre.beyond and parameter.kind == "category":
                answers[id] = specimen.centre.beyond
        elif parameter.kind == "length":
            if tibia_mm is not None:
                answers[id] = round(tibia_mm + _RULER_MM * float(rng.standard_normal()), 2)
        elif parameter.kind == "count":
            slip = int(rng.choice([-1, 1])) if chance[0] < scorer.false_positive else 0
            answers[id] = int(parameter.expected or 0) + int(changes.get(id, 0)) + slip
        elif chance[1] < scorer.unobservable:
            answers[id] = UNOBSERVABLE
        elif chance[2] < scorer.image_only:
            answers[id] = IMAGE_ONLY
        else:
            seen = id in changes or chance[0] < scorer.false_positive
            answers[id] = str(changes.get(id, parameter.abnormal[0])) if seen else parameter.normal[0]
    if rng.random() < scorer.tail_tipped and CAUDAL in answers:
        answers[CAUDAL] = float(answers[CAUDAL]) - int(rng.integers(1, 5))
    return answers


def missed(severity: float, scorer: Scorer) -> float:
    """The probability that a finding of `severity` is not noticed."""
    return scorer.missed * float(np.clip((_PLAIN - severity) / (_PLAIN - _FAINT), 0, None))


def rows(specimen: Specimen, answers: Mapping[str, str | float]) -> Iterator[tuple[str, ...]]:
    """`answers` as rows of `COLUMNS`."""
    centre = specimen.centre
    for id, value in answers.items():
        parameter = parameters()[id]
        name = f"{centre.name}/{specimen.specimen_id}/{id}"
        yield (
            md5(name.encode(), usedforsecurity=False).hexdigest(),
            specimen.specimen_id,
            centre.name,
            centre.pipeline,
            centre.procedure,
            f"{id}_001",
            parameter.name,
            _OBSERVATION_TYPES[parameter.kind],
            value if isinstance(value, str) else "",
            "" if isinstance(value, str) else f"{value:g}",
            f"{specimen.date_of_experiment}T00:00:00Z",
            specimen.colony_id,
            specimen.group,
            specimen.sex,
            specimen.zygosity,
            specimen.metadata_group,
        )


def _asked(centre: Centre, id: str) -> bool:
    return int(id[-3:]) <= max(centre.scored_to, CORE)


def _changes(findings: list[str]) -> dict[str, str | int]:
    """Parameter id -> abnormal answer, or how far a count is from the wild type's; counts add up."""
    changes: dict[str, str | int] = {}
    for name in findings:
        for id, change in FINDINGS[name].parameters.items():
            before = changes.get(id, 0)
            changes[id] = before + change if isinstance(before, int) and isinstance(change, int) else change
    return changes
