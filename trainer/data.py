"""A labelled archive as training sees it: decoded radiographs, grouped by specimen, and what is known of each.

The engine's index, plan and loader decide what a specimen is and what a radiograph looks like, so training sees
exactly what scoring will see.
"""

# N specimens · R radiographs · T radiographs per specimen · K nodes · Q questions · S side of the picture

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mxbatch.engine.archive.index import KEY
from mxbatch.engine.archive.open import open_archive
from mxbatch.engine.errors import EnvironmentFault, UsageError
from mxbatch.engine.model_store import cache_folder
from mxbatch.engine.models.recipe import Recipe
from mxbatch.engine.plan import METADATA, ShardSizes, Specimen, make_plan
from mxbatch.engine.taxonomy import Taxonomy
from mxbatch.trainer.decoded import Progress, Wanted, decode_all, digest_of, files_of
from mxbatch.trainer.kept import KEEP_GB
from mxbatch.trainer.labels import Labels, label
from mxbatch.trainer.scores import read_scores

_COLONY = METADATA.index("colony_id")
_SHOWN = 3
"""How many conflicts, and how many reasons for leaving answers out, a note spells out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """N specimens, sorted by key."""

    images: NDArray[np.uint8]
    """`[R, S, S]`, mapped from disk."""
    views: NDArray[np.int64]
    """`[R]`: the recipe's `view_index` of each radiograph."""
    first: NDArray[np.int64]
    """`[N + 1]`: specimen n has the radiographs `first[n]:first[n + 1]`, at least one."""
    labels: NDArray[np.float32]
    """`[N, K]`: 1 abnormal, 0 normal, NaN not known."""
    answers: NDArray[np.float32]
    """`[N, Q]`: the same of each of the taxonomy's questions."""
    keys: tuple[tuple[str, ...], ...]
    """The engine's `KEY`."""
    colonies: tuple[str, ...]
    """Empty where nobody says."""
    centres: tuple[str, ...]
    quarantined: tuple[tuple[str, str, str], ...]
    """Code, path and reason of each radiograph that cannot be used."""
    fingerprint: str
    """32 hex digits over keys, files, labels and the input contract: what a checkpoint is tied to."""
    left_out: int = 0
    """Specimens of the archive without a usable radiograph of the recipe's views."""


def load_dataset(
    archive: Path,
    recipe: Recipe,
    taxonomy: Taxonomy,
    *,
    scores: Path | None = None,
    labelled: bool = True,
    cache: Path | None = None,
    keep_decoded: float = KEEP_GB,
    threads: int | None = None,
    progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
) -> Dataset:
    """Read `archive` as `recipe` sees it: radiographs of its views, under its input contract.

    `scores` is the table of answers, by default the one in the archive (`read_scores`); with `labelled` false none
    is read and all labels are NaN. Labels come from all specimens of the archive, so they do not depend on the
    recipe. Decoded radiographs are kept below `cache`, by default `decoded` in the user's cache folder, within
    `keep_decoded` GB. `progress` follows the decoding; `note` is told in a line what was left out, and what had to go.

    Raises UsageError: MX-T001 when nothing is known of any specimen, and what `open_archive` and `read_scores` say;
    EnvironmentFault MX-E002 when the archive holds no radiograph of the views, and what `decode_all` says.
    """
    tell = note or (lambda line: None)
    opened = open_archive(archive, extra_views=recipe.views)
    specimens = _specimens(opened.index)
    keys = [specimen.key for specimen in specimens]
    if labelled:
        known = label(read_scores(opened.root, scores), keys, taxonomy)
        _check(known, scores or opened.root)
        values_NK, answers_NQ = known.values, known.answers
        for line in _remarks(known):
            tell(line)
    else:
        values_NK = np.full((len(keys), len(taxonomy.nodes)), np.nan, np.float32)
        answers_NQ = np.full((len(keys), len(taxonomy.questions)), np.nan, np.float32)

    owners, wanted = _wanted(specimens, recipe)
    quarantined = [
        (radiograph.code, radiograph.path, radiograph.reason or "")
        for specimen in specimens
        for radiograph in specimen.radiographs
        if radiograph.code is not None
    ]
    folder = cache or cache_folder() / "decoded"
    decoded = decode_all(
        opened.root,
        wanted,
        recipe.input,
        folder=folder,
        threads=threads,
        keep_gb=keep_decoded,
        progress=progress,
        note=tell,
    )
    quarantined += [(code, wanted[row][1].path, why) for row, code, why in decoded.refused]
    kept, counts = np.unique(owners[decoded.rows], return_counts=True)
    if not len(kept):
        what = f"holds no usable radiograph of the views {', '.join(recipe.views)}"
        raise EnvironmentFault("MX-E002", what, path=opened.root)
    if quarantined:
        tell(f"{len(quarantined):,} radiographs cannot be used, the first: {' '.join(quarantined[0])}")
    if left_out := len(keys) - len(kept):
        tell(
            f"{left_out:,} specimens have no usable radiograph of the views {', '.join(recipe.views)}: left out"
        )
    values_NK, answers_NQ = values_NK[kept], answers_NQ[kept]
    files = files_of([wanted[row] for row in decoded.rows])
    known_bytes = (values_NK.tobytes(), answers_NQ.tobytes())
    return Dataset(
        images=decoded.images,
        views=np.array([recipe.view_index(wanted[row][1].view) for row in decoded.rows], np.int64),
        first=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        labels=values_NK,
        answers=answers_NQ,
        keys=tuple(keys[n] for n in kept),
        colonies=tuple(str(specimens[n].metadata[_COLONY] or "") for n in kept),
        centres=tuple(keys[n][0] for n in kept),
        quarantined=tuple(quarantined),
        fingerprint=digest_of(*files, str(recipe.input.as_dict()), str(recipe.views), *known_bytes),
        left_out=left_out,
    )


def batch(
    dataset: Dataset, specimens: NDArray[np.int64], *, radiographs: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_], NDArray[np.float32]]:
    """The model's arguments for some specimens, and their labels.

    `images uint8[N, T, 1, S, S]`, `view_ids int64[N, T]`, `mask bool[N, T]` (true where there is a radiograph),
    `labels float32[N, K]`. T is what the largest of these specimens needs, at most `radiographs`; of one that has
    more, the last repeat of a view goes before any view does, as in scoring.
    """
    rows = [chosen(dataset, n, radiographs) for n in specimens]
    mask_NT = np.arange(max(map(len, rows), default=0)) < np.array([[len(some)] for some in rows]).reshape(
        -1, 1
    )
    flat_R = np.concatenate(rows) if rows else np.empty(0, np.int64)
    size = dataset.images.shape[-1]
    images = np.zeros((*mask_NT.shape, 1, size, size), np.uint8)
    images[mask_NT, 0] = dataset.images[flat_R]
    view_ids = np.zeros(mask_NT.shape, np.int64)
    view_ids[mask_NT] = dataset.views[flat_R]
    return images, view_ids, mask_NT, dataset.labels[specimens]


def chosen(dataset: Dataset, specimen: int, radiographs: int) -> NDArray[np.int64]:
    """At most so many of the specimen's rows of `images`: those that the model is shown."""
    rows = np.arange(dataset.first[specimen], dataset.first[specimen + 1])
    while len(rows) > radiographs:
        views = dataset.views[rows].tolist()
        repeats = [n for n, view in enumerate(views) if view in views[:n]]
        rows = np.delete(rows, repeats[-1] if repeats else -1)
    return rows


def _specimens(index: pa.Table) -> tuple[Specimen, ...]:
    """The specimens of an index, as the engine groups them; files that belong to none are passed over."""
    plan = make_plan(index, model_id="", sizes=ShardSizes(most=index.num_rows, least=index.num_rows))
    return tuple(specimen for specimen in plan.shard(0).specimens if specimen.key[1])


def _wanted(specimens: Sequence[Specimen], recipe: Recipe) -> tuple[NDArray[np.int64], list[Wanted]]:
    """The radiographs of the recipe's views, and the number of the specimen that each is of."""
    pairs = [
        (n, (specimen.key, radiograph))
        for n, specimen in enumerate(specimens)
        for radiograph in specimen.radiographs
        if radiograph.code is None and radiograph.view in recipe.views
    ]
    return np.array([n for n, _ in pairs], np.int64), [wanted for _, wanted in pairs]


def _check(known: Labels, source: Path) -> None:
    """Raise when no label came of the answers: then the two tables speak of different animals."""
    if not np.isnan(known.values).all():
        return
    why = "; ".join(f"{count:,} answers {reason}" for reason, count in list(known.ignored.items())[:_SHOWN])
    what = f"nothing is known of any of {len(known.keys):,} specimens"
    if known.keys:
        what += f", such as {', '.join(map(repr, known.keys[0]))} ({', '.join(KEY)})"
    raise UsageError("MX-T001", f"{what}; {why}" if why else what, path=source)


def _remarks(known: Labels) -> list[str]:
    """What a user should know about the labels."""
    lines = [f"{count:,} answers left out, {why}" for why, count in list(known.ignored.items())[:_SHOWN]]
    if more := list(known.ignored.values())[_SHOWN:]:
        lines.append(f"{sum(more):,} answers left out for {len(more)} other reasons")
    if known.conflicts:
        shown = "; ".join(known.conflicts[:_SHOWN])
        lines.append(f"{len(known.conflicts):,} conflicting answers count as not judged: {shown}")
    return lines
