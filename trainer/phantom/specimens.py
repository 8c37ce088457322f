"""Who is in an archive of phantoms, and who has which findings: decided before the first of them is drawn.

As in real life findings run in families. A centre's mutants come in lines of about ten animals; an affected line
has one or a few typical findings, each seen in most of its animals but not in all. Everybody else has a finding
only now and then. The share of animals with any finding is kept exactly, whatever the lines.

Which classes a line has says nothing of which others it has. Where crowded lines stand beside others it does: much
that is plain says that there is more. An early model had learned to guess so: it told ribs from no ribs with an AUC of
0.81 on crowded animals, and of 0.40 on animals with one finding each. But a model that has learned from crowded lines
alone passes over what is all that an animal has: with others among them the reference has 0.80 for ribs on animals with
few findings, and had 0.74 before (docs/training.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from hashlib import md5
from itertools import cycle

import numpy as np

from mxbatch.engine.errors import UsageError
from mxbatch.trainer.phantom.centres import Centre

BASELINE = "baseline"
"""Colony of the controls: wild types belong to no line."""
SEVERITIES = (0.5, 1.0)
LINE_SIZE = 10
"""Mutants of one line, about seven of either sex at a real centre and some fewer here."""

_PENETRANCE = (0.5, 1.0)
_SPORADIC = 0.02
"""Proneness of all animals outside the affected lines."""
CLASS_SHARE = 0.1
"""The share of affected lines with a given class: of ten classes three in four lines have one, the others more."""
_MORE = 0.05
"""Share of the animals with findings that have one more, of its own."""
_FIRST_DAY = date(2014, 1, 6)
_WEEKS = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Specimen:
    """One animal: what an archive says of it, and what is truly wrong with it."""

    number: int
    """Position in the archive; with the archive's seed it decides everything that is drawn."""
    centre: Centre
    specimen_id: str
    colony_id: str
    gene_symbol: str
    allele_symbol: str
    zygosity: str
    sex: str
    group: str
    age_weeks: int
    date_of_experiment: str
    """YYYY-MM-DD."""
    metadata_group: str
    findings: Mapping[str, float]
    """Finding -> severity, within `SEVERITIES`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """The mutants of one allele, and what is typical of them."""

    number: int
    """From 1, over all centres."""
    zygosity: str
    day: date
    typical: Mapping[str, float]
    """Finding -> penetrance; empty for a line that is like the wild type."""


def choose_specimens(
    specimens: int,
    *,
    seed: int,
    prevalence: float,
    centres: Sequence[Centre],
    nodes: Mapping[str, str],
    class_share: float = CLASS_SHARE,
    crowded: float = 1.0,
) -> tuple[Specimen, ...]:
    """`specimens` animals of `centres`, `round(prevalence * specimens)` of them with at least one finding.

    `nodes` is finding -> class. Each class is typical of `class_share` of the affected lines, whatever else they have;
    one at least of each. That goes for `crowded` of these lines, as a share; in the others it is typical of
    `CLASS_SHARE`. Half of each centre's animals are controls. The same arguments give the same animals. Raises
    UsageError (MX-U001) for a number below 1, or a prevalence or share outside 0 to 1.
    """
    if specimens < 1:
        raise UsageError("MX-U001", f"an archive of {specimens} specimens cannot be drawn")
    if not 0 <= prevalence <= 1:
        raise UsageError("MX-U001", f"prevalence is a share from 0 to 1, got {prevalence:g}")
    for name, value in (("class_share", class_share), ("crowded", crowded)):
        if not 0 <= value <= 1:
            raise UsageError("MX-U001", f"{name} is a share from 0 to 1, got {value:g}")
    rng = np.random.default_rng(seed)
    counts = apportion(specimens, [centre.share for centre in centres])
    litters = [(home, size) for home, count in enumerate(counts) for size in _line_sizes((count + 1) // 2)]
    wanted = prevalence * specimens
    lines = _lines(len(litters), rng, wanted=wanted, nodes=nodes, share=class_share, crowded=crowded)
    animals: list[tuple[int, Line | None]] = []
    for (home, size), line in zip(litters, lines, strict=True):
        animals += [(home, line)] * size
    for home, count in enumerate(counts):
        animals += [(home, None)] * (count // 2)
    weights = np.array([_proneness(line) for _, line in animals])
    ill = rng.choice(specimens, round(prevalence * specimens), replace=False, p=weights / weights.sum())
    chosen = set(ill.tolist())
    return tuple(
        _specimen(number, centres[home], line, rng, _findings(line, nodes, rng) if number in chosen else {})
        for number, (home, line) in enumerate(animals)
    )


def apportion(total: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers that sum to `total`, as near to `shares` as can be (largest remainders; earlier ones first)."""
    exact = [total * share / sum(shares) for share in shares]
    counts = [int(part) for part in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


def _proneness(line: Line | None) -> float:
    """How likely an animal is to be among those with findings, relative to one of a fully penetrant line."""
    return max(line.typical.values(), default=_SPORADIC) if line else _SPORADIC


def _line_sizes(mutants: int) -> list[int]:
    lines = round(mutants / LINE_SIZE) or min(mutants, 1)
    return [len(part) for part in np.array_split(np.arange(mutants), lines)] if lines else []


def _lines(
    count: int,
    rng: np.random.Generator,
    *,
    wanted: float,
    nodes: Mapping[str, str],
    share: float,
    crowded: float,
) -> list[Line]:
    """Enough affected lines for `wanted` animals, with what is typical of them."""
    affected = min(count, int(np.ceil(wanted / (np.mean(_PENETRANCE) * LINE_SIZE))))
    chosen = rng.permutation(count)[:affected].tolist()
    classes_of = dict(zip(chosen, _deal(affected, nodes, share, round(crowded * affected), rng), strict=True))
    lines = []
    for number in range(count):
        typical = {
            _one_of(node, nodes, rng): float(rng.uniform(*_PENETRANCE)) for node in classes_of.get(number, ())
        }
        day = _FIRST_DAY + timedelta(weeks=int(rng.integers(_WEEKS)), days=int(rng.integers(5)))
        zygosity = "homozygote" if rng.random() < 0.75 else "heterozygote"
        lines.append(Line(number=number + 1, zygosity=zygosity, day=day, typical=typical))
    return lines


def _deal(
    lines: int, nodes: Mapping[str, str], share: float, crowded: int, rng: np.random.Generator
) -> list[list[str]]:
    """The classes of each affected line, drawn anew for every class; one in turn to who has none.

    The first `crowded` lines are to have `share` of them, the rest `CLASS_SHARE`.
    """
    classes = list(dict.fromkeys(nodes.values()))
    dealt: list[list[str]] = [[] for _ in range(lines)]
    for node in classes:
        for start, end, part in ((0, crowded, share), (crowded, lines, CLASS_SHARE)):
            for line in rng.permutation(end - start)[: round(part * (end - start))].tolist():
                dealt[start + line].append(node)
    turn = cycle(rng.permutation(len(classes)).tolist())
    return [given or [classes[next(turn)]] for given in dealt]


def _one_of(node: str, nodes: Mapping[str, str], rng: np.random.Generator) -> str:
    return str(rng.choice([name for name, of in nodes.items() if of == node]))


def _findings(line: Line | None, nodes: Mapping[str, str], rng: np.random.Generator) -> dict[str, float]:
    """The findings of an animal that has some: its line's, or one of its own."""
    names = [name for name, penetrance in (line.typical if line else {}).items() if rng.random() < penetrance]
    if line and line.typical and not names:
        names = [max(line.typical, key=line.typical.__getitem__)]
    if not names or rng.random() < _MORE:
        taken = {nodes[name] for name in names}
        free = [node for node in dict.fromkeys(nodes.values()) if node not in taken]
        names += [_one_of(str(rng.choice(free)), nodes, rng)] if free else []
    return {name: round(float(rng.uniform(*SEVERITIES)), 3) for name in names}


def _specimen(
    number: int, centre: Centre, line: Line | None, rng: np.random.Generator, findings: Mapping[str, float]
) -> Specimen:
    gene = f"Phm{line.number}" if line else ""
    day = (
        line.day
        if line
        else _FIRST_DAY + timedelta(weeks=int(rng.integers(_WEEKS)), days=int(rng.integers(5)))
    )
    words = {
        "serial": 100_000 + number,
        "line": line.number if line else 0,
        "gene": gene or "B6N",
        "GENE": gene.upper() or "B6N",
        "letters": "P" + _letters(line.number if line else 0),
        "litter": 1 + number // 6,
        "letter": "abcdef"[number % 6],
    }
    return Specimen(
        number=number,
        centre=centre,
        specimen_id=centre.specimen.format(**words),
        colony_id=centre.colony.format(**words) if line else BASELINE,
        gene_symbol=gene,
        allele_symbol=f"{gene}<tm1b(phantom)>" if line else "",
        zygosity=line.zygosity if line else "",
        sex=("female", "male")[number % 2],
        group="experimental" if line else "control",
        age_weeks=int(rng.integers(12, 16)),
        date_of_experiment=day.isoformat(),
        metadata_group=md5(f"phantom/{centre.name}".encode(), usedforsecurity=False).hexdigest(),
        findings=findings,
    )


def _letters(number: int) -> str:
    """Three letters, another three for each number below 17,576."""
    return "".join(chr(ord("A") + number // 26**place % 26) for place in (2, 1, 0))
