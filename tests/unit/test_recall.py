"""New thresholds over stored probabilities give what scoring with those thresholds gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tomli_w
from echo import TAXONOMY, echo_bundle
from numpy.typing import NDArray

from mxbatch.engine.bundle import Bundle
from mxbatch.engine.calls import TREE, Thresholds
from mxbatch.engine.errors import EnvironmentFault, UsageError
from mxbatch.engine.feed import Loaded
from mxbatch.engine.ledger import QUARANTINE_SCHEMA, Output, RunRecord
from mxbatch.engine.plan import METADATA, PLAN_SCHEMA, Plan, Radiograph, Specimen
from mxbatch.engine.recall import CALL_COLUMNS, recall
from mxbatch.engine.results import read_calls
from mxbatch.engine.rows import Outcome, calls_table
from mxbatch.engine.taxonomy import Taxonomy

OLD = Thresholds.uniform(TAXONOMY, normal_below=0.4, abnormal_from=0.6)
NEW = Thresholds.uniform(TAXONOMY, normal_below=0.1, abnormal_from=0.3)
BUNDLE = replace(echo_bundle(), thresholds=OLD)


def probabilities(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Path probabilities; the last specimen has none."""
    p_NK = np.random.default_rng(seed).random((count, len(TAXONOMY.nodes))).astype(np.float32)
    for child, parent in enumerate(TAXONOMY.parents):
        if parent >= 0:
            p_NK[:, child] *= p_NK[:, parent]
    return p_NK


def part(mice: Sequence[str], bundle: Bundle, run_id: str, seed: int = 0) -> pa.Table:
    """What a shard of these mice becomes; the last has no radiograph of the model's views, so no numbers."""
    outcomes = []
    for mouse in mice:
        view = "forepaw" if mouse == mice[-1] else "dv"
        radiograph = Radiograph(f"{mouse}.png", view, size=9, mtime_ns=0)
        outcome = Outcome(
            Specimen(("BCM", mouse, "XRY", ""), (None,) * len(METADATA), mouse, (radiograph,)), bundle.recipe
        )
        for row, shot in enumerate(outcome.to_load()):
            outcome.accept(shot, Loaded(checksum=mouse), row)
        outcomes.append(outcome)
    return calls_table(outcomes, probabilities(len(mice) - 1, seed), bundle, "echo", run_id)


def commit(out: Path, mice: Sequence[str], bundle: Bundle = BUNDLE, seed: int = 0) -> Path:
    """A finished run over these mice."""
    output = Output(out)
    run_id = output.next_run_id(datetime(2026, 1, 1, tzinfo=UTC).strftime("%Y%m%dT%H%M%SZ"))
    record = RunRecord(
        run_id=run_id,
        archive="a",
        model_id=bundle.model_id,
        learned_from=bundle.learned_from,
        state="finished",
    )
    output.begin(record, Plan(PLAN_SCHEMA.empty_table()))
    output.commit(run_id, 0, part(mice, bundle, run_id, seed), QUARANTINE_SCHEMA.empty_table())
    return out


MICE = [f"mouse-{number:02d}" for number in range(40)]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return commit(tmp_path / "out", MICE)


@pytest.fixture
def new_file(tmp_path: Path) -> Path:
    path = tmp_path / "new.toml"
    path.write_text(tomli_w.dumps(NEW.as_dict(TAXONOMY)), encoding="utf-8")
    return path


def test_recall_equals_scoring_with_those_thresholds(out: Path, new_file: Path, tmp_path: Path) -> None:
    recalled = recall(out, to=tmp_path / "new.parquet", thresholds=new_file)
    scored = part(MICE, replace(BUNDLE, thresholds=NEW), "other")
    unlike = ("run_id", "scored_at")
    written = pq.read_table(tmp_path / "new.parquet")
    assert written.drop_columns(unlike).equals(scored.drop_columns(unlike))
    assert written.equals(recalled.table)


def test_the_summary_counts_every_specimen_once(out: Path, new_file: Path, tmp_path: Path) -> None:
    before = read_calls(out).to_pylist()
    recalled = recall(out, to=tmp_path / "new.parquet", thresholds=new_file)
    now = recalled.table.to_pylist()
    assert sum(recalled.calls.values()) == len(MICE)
    assert recalled.calls["unscored", "unscored"] == 1
    for (old, new), count in recalled.calls.items():
        assert count == sum((b["call"], n["call"]) == (old, new) for b, n in zip(before, now, strict=True))
    same_call = [(b, n) for b, n in zip(before, now, strict=True) if b["call"] == n["call"]]
    assert recalled.findings_changed == sum(any(b[c] != n[c] for c in CALL_COLUMNS) for b, n in same_call) > 0
    assert json.loads(json.dumps(recalled.as_dict()))["specimens"] == len(MICE)


def test_the_same_thresholds_change_nothing(out: Path, tmp_path: Path) -> None:
    same = tmp_path / "same.toml"
    same.write_text(tomli_w.dumps({"thresholds": OLD.as_dict(TAXONOMY)}), encoding="utf-8")
    recalled = recall(out, to=tmp_path / "same.parquet", thresholds=same)
    assert all(old == new for old, new in recalled.calls)
    assert recalled.findings_changed == 0
    assert recalled.table.equals(read_calls(out))


def test_the_file_says_by_which_thresholds_and_the_parts_stay(
    out: Path, new_file: Path, tmp_path: Path
) -> None:
    parts = {path: path.read_bytes() for path in (out / "calls").rglob("*.parquet")}
    recall(out, to=tmp_path / "new.parquet", thresholds=new_file)
    metadata = pq.read_schema(tmp_path / "new.parquet").metadata
    assert json.loads(metadata[b"mxbatch.thresholds"]) == NEW.as_dict(TAXONOMY)
    assert metadata[b"mxbatch.thresholds_from"].decode() == str(new_file)
    assert {path: path.read_bytes() for path in (out / "calls").rglob("*.parquet")} == parts


def test_the_newest_row_of_a_specimen_is_called(out: Path, new_file: Path, tmp_path: Path) -> None:
    commit(out, MICE[:3], seed=1)
    table = recall(out, to=tmp_path / "new.parquet", thresholds=new_file).table
    assert table.num_rows == len(MICE)
    assert table["p_abnormal"].to_pylist() == read_calls(out)["p_abnormal"].to_pylist()


def test_thresholds_of_a_bundle(out: Path, small_bundle: Bundle, tmp_path: Path) -> None:
    recalled = recall(out, to=tmp_path / "new.parquet", model=small_bundle.path)
    metadata = pq.read_schema(recalled.to).metadata
    assert metadata[b"mxbatch.thresholds_from"].decode() == small_bundle.model_id
    stored = json.loads(metadata[b"mxbatch.thresholds"])
    assert stored == small_bundle.thresholds.as_dict(small_bundle.taxonomy)


def test_rows_of_several_models_need_a_choice(out: Path, new_file: Path, tmp_path: Path) -> None:
    commit(out, MICE[:3], replace(BUNDLE, model_id="later"))
    to = tmp_path / "new.parquet"
    with pytest.raises(UsageError, match=r"2 models: echo, later.*--scored-by"):
        recall(out, to=to, thresholds=new_file)
    assert not to.exists()
    assert recall(out, to=to, thresholds=new_file, scored_by="later").table.num_rows == 3
    with pytest.raises(UsageError, match="no newest row is by 'other'; there are echo, later"):
        recall(out, to=to, thresholds=new_file, scored_by="other")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tail = [0.1, 0.2]", "look at .*tail"),
        (tomli_w.dumps({**NEW.as_dict(TAXONOMY), "ribs": [0.7, 0.2]}), "0.7 <= 0.2"),
        (tomli_w.dumps({**NEW.as_dict(TAXONOMY), "ribs": "high"}), "ribs = 'high'"),
        ("abnormal = [", "MX-U007"),
        ("thresholds = 3", "look at .*thresholds"),
    ],
)
def test_thresholds_that_do_not_fit_are_one_line_and_nothing_is_written(
    out: Path, tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=said) as caught:
        recall(out, to=tmp_path / "new.parquet", thresholds=path)
    assert caught.value.code == "MX-U007"
    assert "odd.toml" in str(caught.value)
    assert not (tmp_path / "new.parquet").exists()


def test_a_part_that_holds_its_tree_needs_no_built_in_one(out: Path, new_file: Path, tmp_path: Path) -> None:
    renamed = Taxonomy(name="ours", version=7, nodes=TAXONOMY.nodes)
    restamp(out, {"mxbatch.taxonomy": "ours 7", TREE: json.dumps(renamed.as_dict())})
    recalled = recall(out, to=tmp_path / "new.parquet", thresholds=new_file)
    assert recalled.table.schema.metadata[b"mxbatch.taxonomy"] == b"ours 7"


def test_a_part_that_only_names_a_foreign_tree_is_refused(out: Path, new_file: Path, tmp_path: Path) -> None:
    restamp(out, {"mxbatch.taxonomy": "ours 7"})
    with pytest.raises(EnvironmentFault, match="'ours 7' and does not hold it"):
        recall(out, to=tmp_path / "new.parquet", thresholds=new_file)


def restamp(out: Path, metadata: dict[str, str]) -> None:
    """Give the only part other metadata."""
    [path] = (out / "calls").rglob("*.parquet")
    pq.write_table(pq.read_table(path, partitioning=None).replace_schema_metadata(metadata), path)


def test_options_that_cannot_be_are_refused(out: Path, new_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one of the two"):
        recall(out, to=tmp_path / "new.parquet")
    with pytest.raises(UsageError, match="one of the two"):
        recall(out, to=tmp_path / "new.parquet", thresholds=new_file, model="untrained")
    with pytest.raises(UsageError, match="among the parts"):
        recall(out, to=out / "calls" / "new.parquet", thresholds=new_file)
    with pytest.raises(UsageError, match="MX-U005"):
        recall(tmp_path / "nowhere", to=tmp_path / "new.parquet", thresholds=new_file)
