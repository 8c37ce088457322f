"""How good bundles are on a labelled archive: figures with intervals, pictures, and the papers' numbers beside them.

    metrics.json  metrics.csv     every figure, nested and tidy
    predictions.parquet           p_ and true_ per specimen, bundle and class: for questions that were not asked here
    roc.png  pr.png  reliability.png
    report.md                     the same for people

The folder appears whole or not at all. Several bundles share one taxonomy and are compared in pairs.
"""

# N specimens · K nodes

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from mxbatch import __version__
from mxbatch.engine.bundle import Bundle, read_bundle
from mxbatch.engine.errors import UsageError
from mxbatch.engine.provenance import LEARNED_FROM
from mxbatch.trainer.bootstrap import Draws
from mxbatch.trainer.compare import Difference, compare
from mxbatch.trainer.evaluation_files import write_evaluation
from mxbatch.trainer.extras import require_extras
from mxbatch.trainer.judge import Judged, Key, judge
from mxbatch.trainer.kept import KEEP_GB
from mxbatch.trainer.measure import CONDITIONAL, MARGINAL, measure_calls, measure_ranks
from mxbatch.trainer.phantom.marker import is_drawn
from mxbatch.trainer.progress import Display, silent
from mxbatch.trainer.results_table import Entry, Grid, backbone_grid, difference_grid, node_grid


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What an evaluation found; all of it is also in the folder `out`."""

    out: Path
    archive: Path
    data: str
    """What the archive holds: radiographs, or phantoms."""
    truth: bool
    """Whether labels are what was drawn, not what scorers answered."""
    unnamed: bool
    """Whether models were not told which view a radiograph shows."""
    entries: tuple[Entry, ...]
    differences: tuple[Difference, ...]
    replicates: int
    seed: int

    @property
    def warnings(self) -> tuple[str, ...]:
        """What nobody should overlook, a sentence each."""
        origins = dict.fromkeys(entry.judged.bundle.learned_from for entry in self.entries)
        found = [LEARNED_FROM[origin].warning for origin in origins if LEARNED_FROM[origin].warning]
        if self.data == "phantoms":
            found.append(
                "Evaluated on phantoms, which are drawn: nothing here says how good a model is on mice."
            )
        if self.truth:
            found.append("Labels are what was drawn, not what the phantoms' scorers answered.")
        if self.unnamed:
            found.append("Models were not told which view a radiograph shows.")
        return tuple(found)

    def comparisons(self) -> list[Grid]:
        """The tables that lay models beside each other and beside the papers'."""
        tables = [backbone_grid(self.entries, kind, self.data) for kind in (CONDITIONAL, MARGINAL)]
        return [*tables, *([difference_grid(self.differences)] if self.differences else [])]

    def grids(self) -> list[Grid]:
        """What the terminal shows: the comparisons, and the classes of a model that was evaluated alone."""
        return [*self.comparisons(), *([node_grid(self.entries[0])] if len(self.entries) == 1 else [])]

    def as_dict(self) -> dict[str, Any]:
        """metrics.json."""
        return {
            "mxbatch": __version__,
            "evaluated_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "archive": str(self.archive),
            "data": self.data,
            "labels": "truth" if self.truth else "scores",
            "views_named": not self.unnamed,
            "warnings": list(self.warnings),
            "bootstrap": {"replicates": self.replicates, "seed": self.seed, "unit": "animal line"},
            "bundles": [
                {**entry.judged.as_dict(), "figures": [figure.as_row() for figure in entry.figures]}
                for entry in self.entries
            ],
            "differences": [difference.as_row() for difference in self.differences],
        }


def evaluate(
    bundles: Sequence[Path],
    archive: Path,
    out: Path,
    *,
    scores: Path | None = None,
    views: Sequence[str] | None = None,
    alone: Sequence[str] = (),
    subset: Collection[Key] | None = None,
    truth: bool = False,
    unnamed: bool = False,
    device: str = "auto",
    keep_decoded: float = KEEP_GB,
    bootstrap: int = 1000,
    seed: int = 0,
    display: Display = silent,
) -> Evaluation:
    """Evaluate every bundle on the labelled specimens of `archive` and write the folder `out`.

    `scores` is the table of answers, by default the one in the archive; `views` limits every model to these of its
    views; a model of several views is measured by each of `alone`, too, as one more model; `subset` holds the keys of
    the specimens to use, such as a test split's. With `truth`, phantoms are labelled by what was drawn and not by what
    their scorers answered; with `unnamed` models are not told which view a radiograph shows. `keep_decoded` is how many
    GB of decoded radiographs may stay in the user's cache. `bootstrap` draws give 95 % intervals. A class that no
    specimen has, or all have, gets no figure and no exception.

    Raises UsageError MX-U001 (no bundle, `out` exists, unknown view, no specimen, negative draws, bundles with
    different taxonomies), MX-T001 (no labels), and EnvironmentFault as the engine does.
    """
    require_extras()
    if out.exists():
        raise UsageError(
            "MX-U001", "the evaluation would replace what is here", path=out, fix="name a new folder"
        )
    if bootstrap < 0:
        raise UsageError("MX-U001", f"bootstrap draws: {bootstrap} cannot be")
    opened = _of_one_taxonomy([read_bundle(path) for path in bundles])
    note_once = cache(display.note)  # what holds for the archive is said by every model that reads it
    judged = []
    for bundle, shown in _shown(opened, views, alone):
        one = judge(
            bundle,
            archive,
            scores=scores,
            views=shown,
            subset=subset,
            truth=truth,
            unnamed=unnamed,
            device=device,
            keep_decoded=keep_decoded,
            note=note_once,
        )
        judged.append(one)
        by = "" if one.views == bundle.recipe.views else f" by {', '.join(one.views)}"
        display.note(
            f"{bundle.model_id}{by}: {len(one.keys)} specimens, {one.radiographs} radiographs scored"
        )
    entries = tuple(_measured(one, bootstrap, seed) for one in judged)
    display.note(f"measured with {bootstrap} draws of animal lines")
    found = Evaluation(
        out=out,
        archive=archive,
        data="phantoms" if is_drawn(archive) else "radiographs",
        truth=truth,
        unnamed=unnamed,
        entries=entries,
        differences=tuple(compare(judged, replicates=bootstrap, seed=seed)),
        replicates=bootstrap,
        seed=seed,
    )
    write_evaluation(found)
    return found


def _of_one_taxonomy(bundles: list[Bundle]) -> list[Bundle]:
    """`bundles`, each once. Their figures are laid side by side, so their classes must be the same."""
    if not bundles:
        raise UsageError("MX-U001", "no bundle was named")
    for bundle in bundles:
        if bundle.taxonomy != bundles[0].taxonomy:
            raise UsageError(
                "MX-U001",
                f"{bundle.model_id} and {bundles[0].model_id} have different taxonomies",
                fix="evaluate them apart",
            )
    return list({bundle.model_id: bundle for bundle in bundles}.values())


def _shown(
    bundles: Sequence[Bundle], views: Sequence[str] | None, alone: Sequence[str]
) -> Iterator[tuple[Bundle, Sequence[str] | None]]:
    """Every bundle with what it is shown: first `views`, then each view of `alone` where it knows several."""
    for bundle in bundles:
        yield bundle, views
        if len(bundle.recipe.views) > 1:
            yield from ((bundle, [view]) for view in dict.fromkeys(alone))


def _measured(judged: Judged, bootstrap: int, seed: int) -> Entry:
    draws = Draws.make(judged.groups_N, replicates=bootstrap, seed=seed)
    bundle, arrays = judged.bundle, (judged.p_NK, judged.labels_NK, judged.bundle.taxonomy)
    ranks = measure_ranks(*arrays, draws)
    return Entry(judged=judged, figures=(*ranks, *measure_calls(*arrays, bundle.thresholds, draws)))
