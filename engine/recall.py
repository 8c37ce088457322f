"""New thresholds over probabilities that are stored already: minutes of a model's time become a second of arithmetic.

Parts are never edited: what a run wrote stays what that model said. The newest row of every specimen is read, its
calls are made again by the same function that made them, and the table goes to a file of its own, which says in
its metadata by what thresholds.
"""

# N specimens · K nodes in the taxonomy's order

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mxbatch.engine.calls import TREE, Thresholds, call_columns, calls_schema
from mxbatch.engine.errors import EnvironmentFault, UsageError
from mxbatch.engine.ledger import Output, write_parquet
from mxbatch.engine.model_store import resolve_model
from mxbatch.engine.results import existing_output, read_calls
from mxbatch.engine.storage import Place, require_path
from mxbatch.engine.taxonomy import Taxonomy, read_taxonomy

CALL_COLUMNS = ("call", "l2_calls", "l3_calls", "mp_terms", "review")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recalled:
    """What new thresholds changed. `table` is what was written to `to`."""

    to: Path
    model_id: str
    table: pa.Table
    calls: Mapping[tuple[str, str], int]
    """(call before, call now) -> specimens, those that stayed the same included."""
    findings_changed: int
    """Specimens with the same call as before, but other nodes named in it."""

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "to": str(self.to),
            "model_id": self.model_id,
            "specimens": self.table.num_rows,
            "calls": [{"before": old, "now": new, "specimens": n} for (old, new), n in self.calls.items()],
            "findings_changed": self.findings_changed,
        }


def recall(
    out: Place,
    *,
    to: Path,
    thresholds: Path | None = None,
    model: Path | str | None = None,
    scored_by: str | None = None,
) -> Recalled:
    """Call the newest rows of the run folder `out` again and write them to the Parquet file `to`.

    The thresholds are those of a TOML file (`node = [normal_below, abnormal_from]` for every node; a table
    `thresholds` around it, as in bundle.toml, is fine) or of the bundle `model`. Thresholds fit one model's
    probabilities: where the rows are by several, `scored_by` names the model id whose rows are meant.

    Raises UsageError MX-U001 (not exactly one source of thresholds, several models, `to` among the parts), MX-U005
    (no calls), MX-U007 (thresholds that do not fit the taxonomy), what `resolve_model` raises, and
    EnvironmentFault MX-E004 or MX-E005 where `to` cannot be written.
    """
    output = existing_output(out)
    if (thresholds is None) == (model is None):
        raise UsageError("MX-U001", "thresholds come from a file or from a bundle, one of the two")
    require_path(to)
    folders = [Path(output.where(name)).resolve() for name in ("calls", "quarantine", "runs")]
    if any(to.resolve().is_relative_to(folder) for folder in folders):
        raise UsageError(
            "MX-U001", "this would stand among the parts of the runs", path=to, fix="name another file"
        )

    calls, model_id = _rows_of_one_model(read_calls(out), scored_by)
    taxonomy = _stored_taxonomy(output, model_id)
    if thresholds is not None:
        new, source = _read_thresholds(thresholds, taxonomy), str(thresholds)
    else:
        bundle = resolve_model(model)
        new, source = (
            Thresholds.from_dict(bundle.thresholds.as_dict(bundle.taxonomy), taxonomy),
            bundle.model_id,
        )

    before = calls.select(CALL_COLUMNS).to_pylist()
    table = _called_again(calls, new, taxonomy)
    now = table.select(CALL_COLUMNS).to_pylist()
    metadata = {
        "mxbatch.model_id": model_id,
        "mxbatch.taxonomy": f"{taxonomy.name} {taxonomy.version}",
        TREE: json.dumps(taxonomy.as_dict()),
        "mxbatch.thresholds": json.dumps(new.as_dict(taxonomy)),
        "mxbatch.thresholds_from": source,
    }
    table = table.replace_schema_metadata(metadata)
    write_parquet(to, table)
    pairs = list(zip(before, now, strict=True))
    return Recalled(
        to=to,
        model_id=model_id,
        table=table,
        calls=dict(sorted(Counter((old["call"], new["call"]) for old, new in pairs).items())),
        findings_changed=sum(old["call"] == new["call"] and old != new for old, new in pairs),
    )


def _rows_of_one_model(calls: pa.Table, wanted: str | None) -> tuple[pa.Table, str]:
    """The rows of the model `wanted`, or of the only one there is."""
    models = sorted(pc.unique(calls["model_id"]).to_pylist())
    if wanted is None and len(models) > 1:
        raise UsageError(
            "MX-U001",
            f"the newest rows are by {len(models)} models: {', '.join(models)}",
            fix="say whose rows are meant: --scored-by MODEL_ID",
        )
    if wanted is not None and wanted not in models:
        raise UsageError(
            "MX-U001", f"no newest row is by {wanted!r}; there are {', '.join(models) or 'none'}"
        )
    if not models:
        raise UsageError("MX-U005", "no specimen has been called yet")
    model_id = wanted or models[0]
    return calls.filter(pc.equal(calls["model_id"], model_id)), model_id


def _stored_taxonomy(output: Output, model_id: str) -> Taxonomy:
    """The tree by which the model's parts were called."""
    for record in reversed(output.runs()):
        numbers = sorted(output.committed(record.run_id)) if record.model_id == model_id else []
        if numbers:
            name = output.calls_part(record.run_id, numbers[0])
            break
    else:
        what = f"no part by {model_id} can be found"
        raise EnvironmentFault("MX-E009", what, path=output.root, fix="restore it")
    try:
        metadata = pq.read_schema(output.store.open(name)).metadata or {}
        stored = {k.decode(): v.decode() for k, v in metadata.items()}
        if TREE in stored:
            return Taxonomy.from_dict(json.loads(stored[TREE]))
    except (OSError, pa.ArrowException, ValueError, UsageError) as error:
        raise EnvironmentFault("MX-E009", str(error), path=output.where(name)) from None
    built_in = read_taxonomy()
    if stored.get("mxbatch.taxonomy") != f"{built_in.name} {built_in.version}":
        raise EnvironmentFault(
            "MX-E009",
            f"the part names the taxonomy {stored.get('mxbatch.taxonomy')!r} and does not hold it",
            path=output.where(name),
            fix="score the archive again with this mxbatch",
        )
    return built_in


def _read_thresholds(path: Path, taxonomy: Taxonomy) -> Thresholds:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        inner = table.get("thresholds")
        return Thresholds.from_dict(inner if isinstance(inner, dict) else table, taxonomy)
    except UsageError as error:
        raise UsageError(error.code, error.what, path=path) from error
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, no TOML
        raise UsageError("MX-U007", str(error), path=path) from error


def _called_again(calls: pa.Table, thresholds: Thresholds, taxonomy: Taxonomy) -> pa.Table:
    """`calls` with the columns that follow from the thresholds made anew, and without other taxonomies' columns."""
    schema = calls_schema(taxonomy)
    columns = [f"p_{name}" for name in taxonomy.names]
    p_NK = np.stack([calls[name].cast(pa.float32()).to_numpy() for name in columns], axis=1)
    for name, values in call_columns(p_NK, thresholds, taxonomy).items():
        column = pa.array(values, schema.field(name).type)
        calls = calls.set_column(calls.column_names.index(name), schema.field(name), column)
    foreign = [name for name in calls.column_names if name.startswith("p_") and name not in columns]
    return calls.drop_columns(foreign)
