"""`draw_archive`: an archive of phantoms in the layout of EBI's mirror, with the tables that real ones have beside it.

    <centre>/<pipeline>/<procedure>/<parameter>/<media>.<ext>   the radiographs
    impc_images.csv    a row per radiograph, the columns that an index needs of Solr's `impc_images`
    experiment.csv     a row per specimen and parameter: the answers of a scorer, see scores.py
    truth.csv          a row per specimen and finding: what is really there, and how bad

Who is in it is decided first (specimens.py). Then each animal is drawn from a stream of random numbers of its own,
so the same seed gives the same bytes whatever the number of workers. The archive appears under its name when it is
whole, and not before.
"""

from __future__ import annotations

import csv
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mxbatch.engine.errors import UsageError, from_os_error
from mxbatch.trainer.phantom import scores
from mxbatch.trainer.phantom.animal import IMAGE_COLUMNS, PARAMETERS, Drawn, Orders, animals_of, draw_animal
from mxbatch.trainer.phantom.centres import named_centres
from mxbatch.trainer.phantom.findings import FINDINGS
from mxbatch.trainer.phantom.marker import TRUTH
from mxbatch.trainer.phantom.scores import Scorer
from mxbatch.trainer.phantom.shot import Nuisance
from mxbatch.trainer.phantom.specimens import CLASS_SHARE, Specimen
from mxbatch.trainer.phantom.workers import draw_in_workers

TRUTH_COLUMNS = ("phenotyping_center", "external_sample_id", "finding", "node", "severity")
SMALLEST, LARGEST = 32, 4096
"""Of what may be asked for as the longest side, in pixels."""
_ANIMALS_PER_WORKER = 8
"""For fewer it does not pay to start another interpreter, unless workers are asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchiveSummary:
    """What was drawn."""

    root: Path
    specimens: int
    abnormal: int
    """Specimens with at least one finding."""
    radiographs: int
    by_centre: Mapping[str, int]
    """Radiographs."""
    by_view: Mapping[str, int]
    """Radiographs, by the view that they are filed under."""
    by_class: Mapping[str, int]
    """Specimens with a finding, per class of level 3."""


def draw_archive(
    root: Path,
    *,
    specimens: int,
    seed: int,
    prevalence: float = 0.1,
    class_share: float = CLASS_SHARE,
    crowded: float = 1.0,
    centres: Sequence[str] | None = None,
    size: int | None = None,
    nuisance: Nuisance | None = None,
    scorer: Scorer | None = None,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> ArchiveSummary:
    """Draw an archive of `specimens` phantoms into the new folder `root`.

    `prevalence` is the share of specimens with at least one finding, and `class_share` that of affected animal lines
    with a given class: an archive to learn from may be crowded. With `crowded` below 1 only that share of them is, and
    the others are as usual. `centres` are names of centres.toml, all when None; `size` is the longest side of every
    radiograph in pixels, each centre's own when None. `workers` processes draw (None: one per core); `progress` is
    told how many radiographs each finished specimen has.

    Raises UsageError (MX-U001) for an impossible option or a `root` that holds something, EnvironmentFault when it
    cannot be written (MX-E004, MX-E005) or the workers fail (MX-E006). Then no archive is left behind.
    """
    orders = Orders(
        seed=seed,
        specimens=specimens,
        prevalence=prevalence,
        class_share=class_share,
        crowded=crowded,
        centres=tuple(centre.name for centre in named_centres(centres)),
        size=size,
        nuisance=nuisance or Nuisance(),
        scorer=scorer or Scorer(),
    )
    try:
        _check(root, orders, workers)
        animals = animals_of(orders)
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as scratch:
            made = Path(scratch) / "made"  # the scratch itself is for its owner's eyes only
            made.mkdir()
            drawn = _draw_all(made, orders, animals, workers, progress or (lambda radiographs: None))
            write_table(made / "impc_images.csv", IMAGE_COLUMNS, _image_rows(drawn))
            write_table(made / "experiment.csv", scores.COLUMNS, _score_rows(animals, drawn))
            write_table(made / TRUTH, TRUTH_COLUMNS, _truth_rows(animals))
            made.rename(root)
    except OSError as error:
        raise from_os_error(error, root) from error
    return _summary(root, animals, drawn)


def _image_rows(drawn: Iterable[Drawn]) -> Iterator[tuple[str, ...]]:
    for each in drawn:
        yield from each.images


def _score_rows(animals: Iterable[Specimen], drawn: Iterable[Drawn]) -> Iterator[tuple[str, ...]]:
    for animal, each in zip(animals, drawn, strict=True):
        yield from scores.rows(animal, each.answers)


def _truth_rows(animals: Iterable[Specimen]) -> Iterator[tuple[str, ...]]:
    """Rows of `TRUTH_COLUMNS`; an animal without findings has none."""
    for animal in animals:
        for finding, severity in animal.findings.items():
            yield animal.centre.name, animal.specimen_id, finding, FINDINGS[finding].node, f"{severity:g}"


def write_table(path: Path, columns: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """A CSV with a header, in UTF-8."""
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(lines)


def _check(root: Path, orders: Orders, workers: int | None) -> None:
    if orders.seed < 0:
        raise UsageError("MX-U001", f"a seed is a whole number from 0 on, got {orders.seed}")
    if orders.size is not None and not SMALLEST <= orders.size <= LARGEST:
        what = f"a size is a number of pixels from {SMALLEST} to {LARGEST}, got {orders.size}"
        raise UsageError("MX-U001", what)
    if workers is not None and workers < 1:
        raise UsageError("MX-U001", f"at least one worker draws, got {workers}")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UsageError("MX-U001", "there is something already", path=root, fix="name a new folder")


def _draw_all(
    made: Path,
    orders: Orders,
    animals: Sequence[Specimen],
    workers: int | None,
    progress: Callable[[int], None],
) -> list[Drawn]:
    worth = -(-len(animals) // _ANIMALS_PER_WORKER)
    count = min(workers or min(len(os.sched_getaffinity(0)), worth), len(animals))
    if count > 1:
        return draw_in_workers(made, orders, count, progress)
    drawn = []
    for animal in animals:
        drawn.append(draw_animal(made, orders, animal))
        progress(len(drawn[-1].images))
    return drawn


def _summary(root: Path, animals: Sequence[Specimen], drawn: Sequence[Drawn]) -> ArchiveSummary:
    images = [row for each in drawn for row in each.images]
    view_of = {parameter: view for view, parameter in PARAMETERS.items()}
    classes = [{FINDINGS[finding].node for finding in animal.findings} for animal in animals]
    return ArchiveSummary(
        root=root,
        specimens=len(animals),
        abnormal=sum(bool(animal.findings) for animal in animals),
        radiographs=len(images),
        by_centre=dict(Counter(row[IMAGE_COLUMNS.index("phenotyping_center")] for row in images)),
        by_view=dict(Counter(view_of[row[IMAGE_COLUMNS.index("parameter_stable_id")]] for row in images)),
        by_class=dict(sorted(Counter(name for names in classes for name in names).items())),
    )
