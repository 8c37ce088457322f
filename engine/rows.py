"""From what happened to a specimen's radiographs to its row of calls, and to the rows of the quarantine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mxbatch import __version__
from mxbatch.engine.archive.index import KEY
from mxbatch.engine.archive.views import UNKNOWN_VIEW, VIEWS
from mxbatch.engine.bundle import Bundle
from mxbatch.engine.calls import TREE, call_columns, calls_schema
from mxbatch.engine.errors import CODES, RadiographError
from mxbatch.engine.feed import Loaded
from mxbatch.engine.ledger import QUARANTINE_SCHEMA
from mxbatch.engine.models.recipe import Recipe
from mxbatch.engine.plan import METADATA, Radiograph, Specimen
from mxbatch.engine.provenance import flags_of


@dataclass(frozen=True, slots=True)
class Token:
    """One radiograph that takes part in the call: its view, and its row in the shard's features."""

    view: str
    row: int


@dataclass(slots=True)
class Outcome:
    """What became of one specimen while its shard was scored."""

    specimen: Specimen
    recipe: Recipe
    tokens: list[Token] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    refused: list[tuple[Radiograph, RadiographError, str | None]] = field(default_factory=list)
    """(radiograph, why, checksum if it could be read)."""
    _seen: set[tuple[str, str]] = field(default_factory=set)

    def to_load(self) -> Iterator[Radiograph]:
        """The radiographs worth opening; the others are settled on the way."""
        for radiograph in self.specimen.radiographs:
            view = radiograph.view or UNKNOWN_VIEW
            if radiograph.code is not None:
                self._refuse(radiograph, RadiographError(radiograph.code, radiograph.reason or ""), None)
            elif view != UNKNOWN_VIEW and view not in self.recipe.views:
                self.flags.add("view_not_in_model")
            else:
                yield radiograph

    def accept(self, radiograph: Radiograph, loaded: Loaded, row: int) -> bool:
        """Take a loaded radiograph in. True when the encoder should see it."""
        view = radiograph.view or UNKNOWN_VIEW
        if loaded.error is not None:
            self._refuse(radiograph, loaded.error, loaded.checksum)
            return False
        if (view, str(loaded.checksum)) in self._seen:
            self.flags.add("duplicate_radiograph")
            return False
        self._seen.add((view, str(loaded.checksum)))
        if view == UNKNOWN_VIEW:
            self.flags.add("view_unknown")
        self.tokens.append(Token(view, row))
        self._make_room()
        return True

    def _make_room(self) -> None:
        """Keep to the model's number of tokens: the last repeat of a view goes before any view does."""
        while len(self.tokens) > self.recipe.max_radiographs:
            views = [token.view for token in self.tokens]
            repeated = [n for n, view in enumerate(views) if view in views[:n]]
            self.tokens.pop(repeated[-1] if repeated else -1)
            self.flags.add("radiographs_left_out")

    def _refuse(self, radiograph: Radiograph, error: RadiographError, checksum: str | None) -> None:
        self.refused.append((radiograph, error, checksum))
        self.flags.add("radiograph_quarantined")

    @property
    def lost(self) -> bool:
        """True when every radiograph is in quarantine: then the specimen has no row of calls."""
        return len(self.refused) == len(self.specimen.radiographs)


def calls_table(
    outcomes: Sequence[Outcome],
    probabilities_NK: NDArray[np.float32],
    bundle: Bundle,
    runtime: str,
    run_id: str,
) -> pa.Table:
    """A row per specimen that is not lost; `probabilities_NK` holds those with tokens, in the same order."""
    kept = [outcome for outcome in outcomes if not outcome.lost]
    full_NK = np.full((len(kept), len(bundle.taxonomy.nodes)), np.nan, np.float32)
    full_NK[[bool(outcome.tokens) for outcome in kept]] = probabilities_NK
    columns: dict[str, Any] = {
        **{name: [outcome.specimen.key[i] for outcome in kept] for i, name in enumerate(KEY)},
        **{name: [outcome.specimen.metadata[i] for outcome in kept] for i, name in enumerate(METADATA)},
        "views_used": [_views(outcome) for outcome in kept],
        "views_missing": [
            [view for view in bundle.recipe.views if view not in _views(outcome)] for outcome in kept
        ],
        **call_columns(full_NK, bundle.thresholds, bundle.taxonomy),
        "flags": [sorted(outcome.flags | flags_of(bundle.learned_from)) for outcome in kept],
        "model_id": [bundle.model_id] * len(kept),
        "runtime": [runtime] * len(kept),
        "run_id": [run_id] * len(kept),
        "scored_at": [datetime.now(UTC)] * len(kept),
    }
    for k, name in enumerate(bundle.taxonomy.names):
        columns[f"p_{name}"] = pa.array(full_NK[:, k], pa.float32(), from_pandas=True)
    schema = calls_schema(bundle.taxonomy).with_metadata(_provenance(bundle, runtime, run_id))
    return pa.table({field.name: columns[field.name] for field in schema}, schema=schema)


def _views(outcome: Outcome) -> list[str]:
    """Views that took part, each once, in IMPC's order, the model's own views after them."""
    order = {view: n for n, view in enumerate(dict.fromkeys((*VIEWS, *outcome.recipe.views)))}
    return sorted({token.view for token in outcome.tokens}, key=lambda view: order.get(view, len(order)))


def quarantine_table(outcomes: Sequence[Outcome], model_id: str, run_id: str) -> pa.Table:
    """A row per radiograph that could not be used: `QUARANTINE_SCHEMA`."""
    now = datetime.now(UTC)
    rows = [
        {
            **dict(zip(KEY, outcome.specimen.key, strict=True)),
            "path": radiograph.path,
            "view": radiograph.view,
            "code": error.code,
            "name": CODES[error.code].name,
            "reason": error.what,
            "checksum": checksum,
            "size": radiograph.size,
            "transient": CODES[error.code].transient,
            "work_id": outcome.specimen.work_id,
            "model_id": model_id,
            "run_id": run_id,
            "seen_at": now,
        }
        for outcome in outcomes
        for radiograph, error, checksum in outcome.refused
    ]
    return pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA)


def _provenance(bundle: Bundle, runtime: str, run_id: str) -> dict[str, str]:
    """Key-value metadata of every calls part: read it with `parquet_kv_metadata` or `schema.metadata`."""
    return {
        "mxbatch.version": __version__,
        "mxbatch.model_id": bundle.model_id,
        "mxbatch.taxonomy": f"{bundle.taxonomy.name} {bundle.taxonomy.version}",
        TREE: json.dumps(bundle.taxonomy.as_dict()),
        "mxbatch.runtime": runtime,
        "mxbatch.run_id": run_id,
        "mxbatch.learned_from": bundle.learned_from,
    }
