"""The folder that an evaluation leaves: for programs, for tables, for people. Whole or not at all."""

# N specimens · K nodes

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from mxbatch import __version__
from mxbatch.engine.archive.index import KEY
from mxbatch.engine.errors import from_os_error, one_line
from mxbatch.engine.ledger import write_parquet
from mxbatch.trainer.compare import label_of
from mxbatch.trainer.judge import Judged
from mxbatch.trainer.plots import draw
from mxbatch.trainer.results_table import Entry, call_grid, node_grid

if TYPE_CHECKING:
    from mxbatch.trainer.evaluate import Evaluation

CSV_COLUMNS = (
    "bundle", "recipe", "views", "node", "level", "kind", "metric", "value", "low", "high", "specimens",
    "positives", "nodes",
)  # fmt: skip


def write_evaluation(found: Evaluation) -> None:
    """Write `found` as the folder `found.out`. Raises EnvironmentFault MX-E004 or MX-E005, and leaves nothing then."""
    out = found.out
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
            folder = Path(scratch) / out.name
            folder.mkdir()
            text = json.dumps(found.as_dict(), indent=2, ensure_ascii=False, allow_nan=False)
            (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")
            (folder / "metrics.csv").write_text(_csv(found), encoding="utf-8")
            write_parquet(folder / "predictions.parquet", predictions(found.entries))
            draw(found.entries, folder, found.data)
            (folder / "report.md").write_text(_report(found), encoding="utf-8")
            folder.rename(out)
    except OSError as error:
        raise from_os_error(error, out) from error


def _csv(found: Evaluation) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for entry in found.entries:
        judged = entry.judged
        named = {
            "bundle": judged.bundle.model_id,
            "recipe": judged.bundle.recipe.name,
            "views": " ".join(judged.views),
        }
        writer.writerows({**named, **figure.as_row()} for figure in entry.figures)
    return text.getvalue()


def predictions(entries: Sequence[Entry]) -> pa.Table:
    """A row per bundle, views shown and specimen: key, colony, `p_<node>`, `true_<node>` (null where nobody judged)."""
    return pa.concat_tables([_predictions(entry.judged) for entry in entries])


def _predictions(judged: Judged) -> pa.Table:
    names = judged.bundle.taxonomy.names
    return pa.table(
        {
            "bundle": pa.array([judged.bundle.model_id] * len(judged.keys), pa.string()),
            "views": pa.array([" ".join(judged.views)] * len(judged.keys), pa.string()),
            **{part: pa.array([key[i] for key in judged.keys], pa.string()) for i, part in enumerate(KEY)},
            "colony_id": pa.array(judged.colonies, pa.string()),
            **{f"p_{name}": pa.array(judged.p_NK[:, k], pa.float32()) for k, name in enumerate(names)},
            **{
                f"true_{name}": pa.array(judged.labels_NK[:, k], pa.float32(), from_pandas=True).cast(
                    pa.bool_()
                )
                for k, name in enumerate(names)
            },
        }
    )


def _report(found: Evaluation) -> str:
    """report.md: comparisons first, then a chapter per bundle."""
    parts = [
        f"# Evaluation of {len(found.entries)} model{'' if len(found.entries) == 1 else 's'} on {found.data}\n",
        *(f"> **{warning}**\n" for warning in found.warnings),
        f"Archive: `{one_line(str(found.archive))}`. {found.replicates} bootstrap draws of animal lines,"
        f" seed {found.seed}; mxbatch {__version__}.\n",
        "*Marginal*: every specimen with a label, by P(class). *Conditional*, or *among abnormal*: specimens whose"
        " parent class is truly abnormal, by P(class | parent) = P(class) / P(parent). A mean goes over the classes"
        " that have an abnormal and a normal specimen.\n",
        *(grid.markdown() for grid in found.comparisons()),
        "![ROC](roc.png)\n\n![precision and recall](pr.png)\n\n![reliability](reliability.png)\n",
    ]
    for entry in found.entries:
        about = entry.judged.as_dict()
        parts += [
            f"## {label_of(entry.judged)}: `{about['model_id']}`\n",
            f"Recipe `{one_line(about['recipe'])}`, learned from {about['learned_from']}; views"
            f" {', '.join(about['views'])}. {about['specimens']} specimens of {about['animal_lines']} animal lines,"
            f" {about['radiographs']} radiographs; {about['left_out']} specimens left out for want of a view,"
            f" {about['unlabelled']} for want of a label; {about['quarantined']} radiographs that could not be used.\n",
            node_grid(entry).markdown(),
            call_grid(entry).markdown(),
        ]
    return "\n".join(parts)
