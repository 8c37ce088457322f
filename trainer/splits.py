"""Which specimens are learned from, which choose thresholds, and which are kept for the end.

Litter mates resemble each other, so an animal line stands on one side as a whole. Controls belong to no line: each
is dealt for itself. Rare classes are dealt first, because they leave the least choice; what is common then evens out
the sizes.
"""

# N specimens · G groups (animal lines, single controls) · F features that are spread evenly · 3 sides

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.archive.index import KEY
from mxbatch.engine.errors import UsageError
from mxbatch.engine.storage import write_atomically
from mxbatch.engine.taxonomy import Taxonomy
from mxbatch.trainer.bootstrap import NO_LINE

SIDES = ("train", "validation", "test")
LEARNED_FROM = SIDES[:2]
"""Sides on which every class needs a positive."""
SHARES = (0.7, 0.15, 0.15)
_COLUMN = "split"


@dataclass(frozen=True, slots=True)
class Split:
    """Positions of specimens, `int64` each, ascending, no specimen twice."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]

    @property
    def sides(self) -> dict[str, NDArray[np.int64]]:
        """By name, in the order of `SIDES`."""
        return {side: getattr(self, side) for side in SIDES}


def split(
    colonies: Sequence[str],
    labels: NDArray[np.float32],
    *,
    shares: Sequence[float] = SHARES,
    seed: int,
    centres: Sequence[str] | None = None,
    leave_out: str | None = None,
) -> Split:
    """Deal N specimens by colony to train, validation and test, which get about `shares` of them.

    `labels` are `float32[N, K]`, 1 / 0 / NaN. Each class's positives are spread by the same shares, and so are the
    lines' animals and the controls of each of `centres`. A class with at least three colonies reaches every side,
    unless a class that is rarer still has claimed them. The same arguments give the same split.

    With `leave_out` all specimens of that centre are the test, and the others are dealt to train and validation;
    animals of its lines that live at another centre are on no side.

    Raises UsageError MX-U001 for impossible shares or a centre that is not there.
    """
    where_N = np.array(centres if centres is not None else [""] * len(colonies), np.str_)
    lines_N, groups_N = _groups(colonies)
    shares_3 = _checked(shares)
    free_N = np.ones(len(colonies), np.bool_)
    away_N = np.zeros(len(colonies), np.bool_)
    if leave_out is not None:
        away_N = where_N == leave_out
        if not away_N.any():
            known = ", ".join(sorted(set(where_N.tolist()))) or "none is known"
            raise UsageError(
                "MX-U001", f"no specimen is of the centre '{leave_out}'", fix=f"name one of {known}"
            )
        free_N = ~np.isin(groups_N, groups_N[away_N])
        shares_3 = _checked([*shares[:2], 0.0])
    strata_NF = np.unique(where_N, return_inverse=True)[1] * 2 + lines_N
    features_NF = np.hstack([labels == 1, strata_NF[:, None] == np.unique(strata_NF)]).astype(np.float64)
    groups_n = np.unique(groups_N[free_N], return_inverse=True)[1]
    side_N = np.full(len(colonies), -1, np.int64)
    side_N[away_N] = SIDES.index("test")
    side_N[free_N] = _deal(groups_n, features_NF[free_N], labels.shape[1], shares_3, seed)[groups_n]
    return _split_of(side_N)


def _groups(colonies: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Whether each specimen is of an animal line, and the number of what is dealt as one with it."""
    lines_N = np.array([is_line(colony) for colony in colonies], np.bool_)
    names = [
        (colony, 0) if line else ("", n)
        for n, (colony, line) in enumerate(zip(colonies, lines_N, strict=True))
    ]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return lines_N, np.array([numbers[name] for name in names], np.int64)


def is_line(colony: str) -> bool:
    """False for controls: their colony is empty, or called `baseline`, in whatever case."""
    return colony.strip().lower() not in NO_LINE


def _checked(shares: Sequence[float]) -> NDArray[np.float64]:
    """`shares` as fractions of one. The training side needs some."""
    given_3 = np.array(shares, np.float64)
    if (
        given_3.shape != (len(SIDES),)
        or not np.isfinite(given_3).all()
        or (given_3 < 0).any()
        or given_3[0] == 0
    ):
        raise UsageError(
            "MX-U001", f"shares are three numbers, none negative and the first above 0, got {tuple(shares)}"
        )
    return np.asarray(given_3 / given_3.sum())


def _deal(
    groups_N: NDArray[np.int64],
    features_NF: NDArray[np.float64],
    classes: int,
    shares_3: NDArray[np.float64],
    seed: int,
) -> NDArray[np.int64]:
    """`int64[G]`: the side of each group.

    A feature's hunger on a side is the part of its fair share that is still to come. A group goes where the features
    that it carries are hungriest, each weighed by how much of all there is of it the group brings. The first
    `classes` features decide whose turn it is: groups with the rarest class come first, then the large ones.
    """
    count = int(groups_N.max(initial=-1)) + 1
    carried_GF = np.zeros((count, features_NF.shape[1]))
    np.add.at(carried_GF, groups_N, features_NF)
    totals_F = carried_GF.sum(axis=0).clip(min=1)
    carries_GF = carried_GF[:, :classes] > 0
    rarity_G = np.where(carries_GF, totals_F[:classes], np.inf).min(axis=1, initial=np.inf)
    chance_G = np.random.default_rng(seed).permutation(count)
    size_G = np.bincount(groups_N, minlength=count)
    part_GF = carried_GF / totals_F
    usable_3 = shares_3 > 0
    had_3F = np.zeros((len(SIDES), features_NF.shape[1]))
    side_G = np.zeros(count, np.int64)
    for g in np.lexsort((chance_G, -size_G, rarity_G)):
        hunger_3F = 1 - had_3F / np.where(usable_3, shares_3, 1)[:, None]
        wanted_3 = (hunger_3F * part_GF[g]).sum(axis=1).round(12)  # equals stay equal on every machine
        side = int(np.where(usable_3, wanted_3, -np.inf).argmax())
        side_G[g] = side
        had_3F[side] += part_GF[g]
    return side_G


def _split_of(side_N: NDArray[np.int64]) -> Split:
    return Split(*(np.flatnonzero(side_N == side).astype(np.int64) for side in range(len(SIDES))))


def require_disjoint(parts: Split, colonies: Sequence[str]) -> None:
    """Raise UsageError MX-T003 when a specimen, or a colony, stands on two sides. Controls are no colony."""
    _, repeats = np.unique(np.concatenate(list(parts.sides.values())), return_counts=True)
    if (repeats > 1).any():
        raise UsageError(
            "MX-T003", f"{int((repeats > 1).sum())} specimens stand on two sides, or twice on one"
        )
    side_of: dict[str, str] = {}
    torn: dict[str, str] = {}
    for side, specimens in parts.sides.items():
        for colony in {colonies[n] for n in specimens if is_line(colonies[n])}:
            if (other := side_of.setdefault(colony, side)) != side:
                torn[colony] = f"in {other} and in {side}"
    if torn:
        first = min(torn)
        more = f", and so are {len(torn) - 1} more colonies" if len(torn) > 1 else ""
        raise UsageError("MX-T003", f"the colony '{first}' is {torn[first]}{more}")


def require_positives(parts: Split, labels: NDArray[np.float32], taxonomy: Taxonomy) -> None:
    """Raise UsageError MX-T002, naming classes and sides, when a class cannot be learned or validated."""
    positives_SK = [(labels[parts.sides[side]] == 1).sum(axis=0) for side in LEARNED_FROM]
    lacking = [
        f"'{name}' in {side} ({int((labels[:, k] == 1).sum())} in all)"
        for k, name in enumerate(taxonomy.names)
        for side, positives_K in zip(LEARNED_FROM, positives_SK, strict=True)
        if positives_K[k] == 0
    ]
    if lacking:
        raise UsageError("MX-T002", f"no specimen is abnormal: {', '.join(lacking)}")


def write_split(path: Path, parts: Split, keys: Sequence[tuple[str, ...]]) -> None:
    """Write `parts` as CSV: the columns of `KEY` and the side, a row per specimen. Raises EnvironmentFault."""
    rows = [(*keys[n], side) for side, specimens in parts.sides.items() for n in specimens]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([(*KEY, _COLUMN), *sorted(rows)])
    write_atomically(path, text.getvalue().encode())


def read_split(path: Path, keys: Sequence[tuple[str, ...]], colonies: Sequence[str]) -> Split:
    """A split from a CSV: `specimen_id`, `split` (train, validation or test), and what else of `KEY` it takes.

    Key columns that the file leaves out do not matter. Specimens that it does not name are on no side; those that
    the archive does not hold are passed over. Raises UsageError: MX-U001 where the file cannot be read as a split
    or names no specimen of the archive, MX-T003 where a specimen or a colony stands on two sides.
    """
    named, side_of = _read_rows(path)
    places = [KEY.index(name) for name in named]
    side_N = np.array([side_of.get(tuple(key[i] for i in places), -1) for key in keys], np.int64)
    if (side_N < 0).all():
        raise UsageError("MX-U001", "names no specimen that the archive holds", path=path)
    parts = _split_of(side_N)
    require_disjoint(parts, colonies)
    return parts


def keys_on(path: Path, side: str) -> set[tuple[str, ...]]:
    """The keys of the specimens that the CSV `path` puts on `side`; it must name all of `KEY`. Raises as above."""
    named, side_of = _read_rows(path)
    if tuple(named) != tuple(KEY):
        raise UsageError("MX-U001", f"a split has the columns {', '.join(KEY)} and {_COLUMN}", path=path)
    return {key for key, number in side_of.items() if SIDES[number] == side}


def _read_rows(path: Path) -> tuple[list[str], dict[tuple[str, ...], int]]:
    """The file's key columns, and side by key."""
    side_of: dict[tuple[str, ...], int] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            rows = csv.DictReader(handle)
            header = rows.fieldnames or []
            if not {"specimen_id", _COLUMN} <= set(header):
                raise UsageError("MX-U001", f"a split has the columns specimen_id and {_COLUMN}", path=path)
            named = [name for name in KEY if name in header]
            for number, row in enumerate(rows, start=2):
                side, key = row[_COLUMN], tuple(row[name] or "" for name in named)
                if side not in SIDES:
                    what = f"row {number}: '{side}' is no side; known: {', '.join(SIDES)}"
                    raise UsageError("MX-U001", what, path=path)
                if side_of.setdefault(key, SIDES.index(side)) != SIDES.index(side):
                    raise UsageError(
                        "MX-T003", f"row {number}: {' '.join(key)} stands on two sides", path=path
                    )
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError("MX-U001", f"cannot be read: {error}", path=path) from error
    return named, side_of
