"""From answers to labels: for every specimen and node of the taxonomy 1 (abnormal), 0 (normal) or NaN (not known).

Not judged is never the same as normal. So a leaf is 0 only where somebody looked, and a node above it only where
somebody looked at all that its centre usually looks at; one abnormal part suffices for 1. Then a node that is 0
has no child that is 1, whatever the answers were.
"""

# N specimens · K nodes · Q questions · R rows of answers · C centres

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mxbatch.engine.archive.index import KEY
from mxbatch.engine.taxonomy import Parameter, Taxonomy

USUAL = 0.5
"""A centre looks for a class when it judged the class in this share of the specimens that it scored at all."""

_SHARED_NUMBERS = re.compile(r"(?P<pipeline>[A-Z0-9-]+)_XRY_(?P<number>\d{3})")
_OWN_NUMBERS = "HAS"
"""The Harwell Ageing Screen: its parameters have numbers and grades of their own."""
_NOT_JUDGED, _UNFORESEEN = -1, -2


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """What is known of each specimen."""

    keys: list[tuple[str, ...]]
    """As asked for; the engine's `KEY`."""
    values: NDArray[np.float32]
    """`[N, K]`: 1 abnormal, 0 normal, NaN not known; nodes in the taxonomy's order."""
    answers: NDArray[np.float32]
    """`[N, Q]`: the same of each parameter in `Taxonomy.questions`."""
    conflicts: tuple[str, ...]
    """One line each: a specimen that was called both normal and abnormal in one parameter, which then counts as
    not judged."""
    ignored: Mapping[str, int]
    """Why rows of answers were left out -> how many."""


def label(scores: pa.Table, keys: Sequence[tuple[str, ...]], taxonomy: Taxonomy) -> Labels:
    """The labels of the specimens `keys`, from answers as `read_scores` gives them.

    A parameter judges the nodes that list it, unless it is a length (only controls say what is normal) or marked
    as not reliable. Other pipelines share IMPC's numbers, so CCP_XRY_031 is read as IMPC_XRY_031 where the taxonomy
    does not name it itself; HAS_XRY has another numbering and is left out. Words meet without regard to case.

    A node with parameters is 1 if one of them is abnormal, 0 if some were judged and none is abnormal. A node with
    children is 1 if one part (a child, or its own parameters) is 1; else NaN while a part that the specimen's centre
    looks for is NaN; else 0 if any part is 0. A class that a centre does not look for (`USUAL`) stands in nobody's
    way: there "normal" means normal in all that is examined. The alternative would leave such a centre with abnormal
    specimens only, and a model would learn to tell centres.
    """
    ignored: Counter[str] = Counter()
    rows = _rows_of(scores, keys, ignored)
    own_NK = np.full((len(keys), len(taxonomy.nodes)), np.nan, np.float32)
    column = {id: q for q, id in enumerate(taxonomy.questions)}
    answers_NQ = np.full((len(keys), len(column)), np.nan, np.float32)
    conflicts: list[str] = []
    for k, parameter, numbers in _questions(rows, taxonomy, ignored):
        asked = rows.take(numbers)
        verdicts = _verdicts(asked, parameter, taxonomy.missing, ignored)
        said_N2 = np.zeros((len(keys), 2), np.bool_)  # has anybody said normal, abnormal?
        specimens = asked["specimen"].to_numpy()
        said_N2[specimens[verdicts >= 0], verdicts[verdicts >= 0]] = True
        both_N = said_N2.all(axis=1)
        conflicts += [
            f"{_name(keys[n])}: {parameter.id} is both normal and abnormal"
            for n in np.flatnonzero(both_N).tolist()
        ]
        answer_N = np.where(
            said_N2.any(axis=1) & ~both_N, said_N2[:, 1].astype(np.float32), np.float32(np.nan)
        )
        answers_NQ[:, column[parameter.id]] = answer_N
        own_NK[:, k] = np.fmax(own_NK[:, k], answer_N)  # abnormal before normal before not judged
    return Labels(
        keys=list(keys),
        values=fill_parents(own_NK, [key[0] for key in keys], taxonomy),
        answers=answers_NQ,
        conflicts=tuple(conflicts),
        ignored=MappingProxyType(dict(ignored.most_common())),
    )


def fill_parents(
    own_NK: NDArray[np.float32], centres: Sequence[str], taxonomy: Taxonomy
) -> NDArray[np.float32]:
    """`float32[N, K]`: each node with its children's say, from what its own parameters say. See `label`."""
    _, centre_N = np.unique(np.array(centres, np.str_), return_inverse=True)
    looked_for_NK = _looked_for(~np.isnan(own_NK), centre_N)[centre_N]
    values_NK = own_NK.copy()
    open_NK = np.isnan(own_NK) & looked_for_NK  # a part that should be known is not
    for k, parent in reversed(list(enumerate(taxonomy.parents))):  # children come after their parents
        undecided_N = open_NK[:, k] & (values_NK[:, k] != 1)
        values_NK[undecided_N, k] = np.nan
        if parent >= 0:
            values_NK[:, parent] = np.fmax(values_NK[:, parent], values_NK[:, k])
            open_NK[:, parent] |= undecided_N
    return values_NK


def _looked_for(judged_NK: NDArray[np.bool_], centre_N: NDArray[np.int64]) -> NDArray[np.bool_]:
    """`bool[C, K]`: which nodes' own parameters a centre usually answers, where it answers any."""
    scored_N = judged_NK.any(axis=1)
    counts_CK = np.zeros((int(centre_N.max(initial=-1)) + 1, judged_NK.shape[1]), np.int64)
    np.add.at(counts_CK, centre_N, judged_NK)
    scored_C = np.bincount(centre_N, weights=scored_N, minlength=len(counts_CK))
    return (counts_CK > 0) & (counts_CK >= USUAL * scored_C[:, None])


def _rows_of(scores: pa.Table, keys: Sequence[tuple[str, ...]], ignored: Counter[str]) -> pa.Table:
    """The rows about `keys`, each with the position of its specimen: `specimen, parameter, answer, number`."""
    wanted = [pa.array([key[i] for key in keys], pa.string()) for i in range(len(KEY))]
    at = pc.index_in(_joined([scores[name] for name in KEY]), value_set=_joined(wanted))
    rows = scores.select(["parameter", "answer", "number"]).append_column("specimen", at).combine_chunks()
    known = rows.filter(pc.is_valid(rows["specimen"]))
    if others := rows.num_rows - known.num_rows:
        ignored["about specimens that the archive does not hold"] = others
    return known


def _joined(columns: Sequence[pa.Array | pa.ChunkedArray]) -> pa.Array | pa.ChunkedArray:
    return pc.binary_join_element_wise(*columns, pa.scalar("\0"))


def _questions(
    rows: pa.Table, taxonomy: Taxonomy, ignored: Counter[str]
) -> Iterator[tuple[int, Parameter, NDArray[np.int64]]]:
    """Each node and parameter that judges it, with the positions in `rows` of its answers; the rest is counted."""
    judges: dict[str, list[tuple[int, Parameter]]] = {}
    for k, node in enumerate(taxonomy.nodes):
        for parameter in node.parameters:
            judges.setdefault(parameter.id, []).append((k, parameter))
    coded = rows["parameter"].combine_chunks().dictionary_encode()
    names = coded.dictionary.to_pylist()
    codes = coded.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(names)))
    numbers_of: dict[str, list[NDArray[np.int64]]] = {}
    for name, numbers in zip(names, np.split(order, ends[:-1]), strict=False):
        id = _id_in(name, judges)
        why = _left_out(name, judges.get(id, []))
        if why:
            ignored[f"{name}: {why}"] += len(numbers)
        else:
            numbers_of.setdefault(id, []).append(numbers)
    for id, numbers_by_pipeline in numbers_of.items():
        for k, parameter in judges[id]:
            yield k, parameter, np.concatenate(numbers_by_pipeline)


def _id_in(name: str, judges: Mapping[str, object]) -> str:
    """The taxonomy's id for the parameter `name`; `name` itself where it has none."""
    match = _SHARED_NUMBERS.fullmatch(name)
    if name in judges or match is None or match["pipeline"] == _OWN_NUMBERS:
        return name
    return f"IMPC_XRY_{match['number']}"


def _left_out(name: str, judges: Sequence[tuple[int, Parameter]]) -> str | None:
    """Why the answers to the parameter `name` judge nothing; None where they do."""
    if name.startswith(f"{_OWN_NUMBERS}_XRY_") and not judges:
        return "the ageing screen numbers and grades on its own"
    if not judges:
        return "not in the taxonomy"
    parameter = judges[0][1]
    if parameter.kind == "length":
        return "a length, which has no fixed bound"
    return None if parameter.reliable else "marked as not reliable"


def _verdicts(
    asked: pa.Table, parameter: Parameter, missing: Sequence[str], ignored: Counter[str]
) -> NDArray[np.int8]:
    """`int8[R]`: 1 abnormal, 0 normal, -1 not judged. Answers that nobody foresaw are not judged, and counted."""
    number = asked["number"].combine_chunks()
    answer = asked["answer"].combine_chunks()
    coded = pc.coalesce(answer, number.cast(pa.string()), pa.scalar("")).dictionary_encode()
    spelled, codes = coded.dictionary.to_pylist(), coded.indices.to_numpy()
    meaning = {word.casefold(): _NOT_JUDGED for word in missing}
    meaning |= {word.casefold(): 0 for word in parameter.normal}
    meaning |= {word.casefold(): 1 for word in parameter.abnormal}
    verdict_of = np.array([meaning.get(word.casefold(), _UNFORESEEN) for word in spelled], np.int8)
    verdicts: NDArray[np.int8] = verdict_of[codes]
    if parameter.kind == "count":
        counted = number.to_numpy(zero_copy_only=False)
        verdicts = np.where(np.isnan(counted), verdicts, counted != parameter.expected).astype(np.int8)
    odd = np.bincount(codes[verdicts == _UNFORESEEN], minlength=len(spelled))
    for word, times in zip(spelled, odd.tolist(), strict=True):
        if times:
            ignored[f"{parameter.id}: '{word}' is none of its answers"] += times
    return np.maximum(verdicts, np.int8(_NOT_JUDGED))


def _name(key: Sequence[str]) -> str:
    return " ".join(filter(None, key))
