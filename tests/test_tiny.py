"""The smallest whole story: three mice in a folder, a plan, one shard, a part, and the table that a user reads.

No torch, no process, no network: a scorer that echoes mean grey levels stands in for the model. Read this first.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bad_files import truncated_jpeg
from corpus import jpeg, png
from echo import echo_engine

from mxbatch.engine.archive.open import open_archive
from mxbatch.engine.history import read_history
from mxbatch.engine.ledger import Output, RunRecord
from mxbatch.engine.plan import make_plan
from mxbatch.engine.results import read_calls, read_quarantine
from mxbatch.engine.shard import score_shard


def test_an_archive_becomes_a_table_of_calls(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    (archive / "one.jpg").write_bytes(jpeg(90, 60))
    (archive / "one-side.png").write_bytes(png(60, 90))
    (archive / "two.jpg").write_bytes(jpeg(64, 64))
    (archive / "two-side.jpg").write_bytes(truncated_jpeg())
    (archive / "three.jpg").write_bytes(truncated_jpeg())
    (archive / "index.csv").write_text(
        "file,specimen,view,centre\n"
        "one.jpg,mouse-1,dv,BCM\none-side.png,mouse-1,lv,BCM\n"
        "two.jpg,mouse-2,dv,BCM\ntwo-side.jpg,mouse-2,lv,BCM\n"
        "three.jpg,mouse-3,dv,BCM\n"
    )
    opened = open_archive(archive)

    output = Output(tmp_path / "out")
    run = RunRecord(run_id="00001-now", archive=str(archive), model_id="echo", learned_from="nothing")
    plan = make_plan(opened.index, model_id="echo")
    output.begin(run, plan)

    with ThreadPoolExecutor(2) as pool:
        engine = echo_engine(archive, pool, learned_from="nothing")
        for number in plan.sizes:
            part = score_shard(plan.shard(number), engine)
            output.commit(run.run_id, number, part.calls, part.quarantine)

    calls = read_calls(output.root).to_pylist()
    assert [row["specimen_id"] for row in calls] == ["mouse-1", "mouse-2"]
    assert [row["views_used"] for row in calls] == [["dv", "lv"], ["dv"]]
    assert calls[1]["views_missing"] == ["lv"]
    assert calls[1]["flags"] == ["radiograph_quarantined", "untrained_model"]
    assert 0 < calls[0]["p_skull"] < calls[0]["p_craniofacial"] < calls[0]["p_abnormal"] < 1

    quarantine = read_quarantine(output.root).to_pylist()
    assert {(row["path"], row["code"]) for row in quarantine} == {
        ("two-side.jpg", "MX-D101"),
        ("three.jpg", "MX-D101"),
    }
    assert make_plan(opened.index, model_id="echo", done=read_history(output).done).radiographs == 0
