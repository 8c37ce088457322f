"""`mxbatch score` as its users meet it: the real radiographs, the second night, and every way to mistype."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import real_archive
from conftest import Run

import mxbatch as front_door
from mxbatch.engine.bundle import Bundle


@pytest.fixture
def archive(tmp_path: Path, radiographs: Path) -> Path:
    return real_archive.build(tmp_path / "archive", source=radiographs)


def contents(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_the_eight_real_radiographs_become_four_rows_with_the_right_views(
    mxbatch: Run, archive: Path, tmp_path: Path
) -> None:
    done = mxbatch("score", archive, "--model", "untrained", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert "they mean nothing" in done.stdout
    calls = front_door.read_calls(tmp_path / "mxbatch-out").to_pylist()
    assert {row["specimen_id"]: row["views_used"] for row in calls} == {
        "mouse-1": ["dv", "skull_dv", "forepaw"],
        "mouse-2": ["dv", "skull_dv", "forepaw"],
        "mouse-3": ["dv"],
        "mouse-4": ["dv"],
    }
    for row in calls:
        assert (row["centre"], row["procedure"]) == ("WTSI", "MGP_XRY_001")
        assert row["date_of_experiment"] == "2012-08-14"
        assert row["flags"] == ["untrained_model"]
        assert row["model_id"].startswith("untrained-convnext_atto-")
        assert row["call"] in ("normal", "review", "abnormal")
        assert 0 <= row["p_skull"] <= row["p_craniofacial"] <= row["p_abnormal"] <= 1


def test_a_worker_that_takes_more_memory_than_planned_is_told_of(
    mxbatch: Run, archive: Path, small_bundle: Bundle, tmp_path: Path
) -> None:
    done = mxbatch(
        "score", archive, "--model", small_bundle.path, "--worker-memory", "0.05", "--device", "cpu"
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"a worker has taken \d\.?\d* GB, 0\.05 were planned for: --worker-memory", done.stderr)
    (record,) = (tmp_path / "mxbatch-out" / "runs").glob("*/run.json")
    run = json.loads(record.read_text())
    assert 50 < run["worker_peak_mb"] < 5_000


def test_pandas_and_duckdb_read_the_calls_as_they_are(
    mxbatch: Run, archive: Path, small_bundle: Bundle, tmp_path: Path
) -> None:
    assert mxbatch("score", archive, "--model", small_bundle.path).returncode == 0
    calls = tmp_path / "mxbatch-out" / "calls"
    frame = pd.read_parquet(calls)
    assert list(frame["specimen_id"]) == ["mouse-1", "mouse-2", "mouse-3", "mouse-4"]
    found = duckdb.execute(f"SELECT count(*), max(run_id) = max(run) FROM '{calls}/*/*.parquet'").fetchall()
    assert found == [(4, True)]
    part = next(calls.glob("*/*.parquet"))
    assert pq.read_schema(part).metadata[b"mxbatch.learned_from"] == b"nothing"


def test_the_second_run_finds_nothing_new_and_a_touched_file_plans_its_specimen_alone(
    mxbatch: Run, archive: Path, small_bundle: Bundle
) -> None:
    command = ("score", archive, "--model", small_bundle.path, "--json")
    first = json.loads(mxbatch(*command).stdout)
    assert first["planned"] == {"shards": 1, "specimens": 4, "radiographs": 8}
    again = mxbatch(*command)
    assert again.returncode == 0
    assert json.loads(again.stdout)["planned"] == {"shards": 0, "specimens": 0, "radiographs": 0}
    touched = next(archive.rglob("93003.jpg"))
    os.utime(touched, ns=(1, 1))
    third = json.loads(mxbatch(*command).stdout)
    assert third["planned"] == {"shards": 1, "specimens": 1, "radiographs": 3}
    assert third["runs"][0]["counts"]["calls"] == 1


def test_another_model_scores_everything_again_and_history_keeps_both(
    mxbatch: Run, archive: Path, small_bundle: Bundle, tmp_path: Path
) -> None:
    assert mxbatch("score", archive, "--model", small_bundle.path).returncode == 0
    assert mxbatch("score", archive, "--model", "untrained").returncode == 0
    out = tmp_path / "mxbatch-out"
    assert front_door.read_calls(out).num_rows == 4
    assert front_door.read_calls(out, history=True).num_rows == 8
    assert set(front_door.read_calls(out)["run_id"].to_pylist()) == {
        row["run_id"] for row in front_door.read_calls(out, history=True).slice(4).to_pylist()
    }


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    mxbatch: Run, archive: Path, small_bundle: Bundle, tmp_path: Path
) -> None:
    before = contents(tmp_path)
    done = mxbatch("score", archive, "--model", small_bundle.path, "--dry-run")
    assert done.returncode == 0
    assert done.stdout.startswith("would score 4 specimens, 8 radiographs in 1 shard")
    assert contents(tmp_path) == before


def test_limit_takes_the_next_specimens_each_time(mxbatch: Run, archive: Path, small_bundle: Bundle) -> None:
    command = ("score", archive, "--model", small_bundle.path, "--limit", 3, "--json")
    planned = [json.loads(mxbatch(*command).stdout)["planned"]["specimens"] for _ in range(3)]
    assert planned == [3, 1, 0]


def test_since_leaves_older_specimens_alone(mxbatch: Run, archive: Path, small_bundle: Bundle) -> None:
    command = ("score", archive, "--model", small_bundle.path, "--dry-run", "--json", "--since")
    assert json.loads(mxbatch(*command, "2012-08-14").stdout)["planned"]["specimens"] == 4
    assert json.loads(mxbatch(*command, "2012-08-15").stdout)["planned"]["specimens"] == 0


def test_status_and_quarantine_tell_what_happened(mxbatch: Run, archive: Path, small_bundle: Bundle) -> None:
    next(archive.rglob("93003.jpg")).write_text("404: no such radiograph")
    assert mxbatch("score", archive, "--model", small_bundle.path).returncode == 1
    status = json.loads(mxbatch("status", "mxbatch-out", "--json").stdout)
    assert status[0]["state"] == "finished"
    assert status[0]["counts"] == {
        "calls": 4,
        "specimens_lost": 0,
        "radiographs_quarantined": 1,
        "radiographs_used": 7,
    }
    assert status[0]["by_code"] == {"MX-D004": 1}
    rows = json.loads(mxbatch("quarantine", "mxbatch-out", "--json").stdout)
    assert [(row["code"], row["specimen_id"]) for row in rows] == [("MX-D004", "mouse-2")]
    assert "MX-D004" in mxbatch("quarantine", "mxbatch-out").stdout
    assert "finished" in mxbatch("status", "mxbatch-out").stdout


def test_from_python_it_is_one_call(archive: Path, small_bundle: Bundle, tmp_path: Path) -> None:
    summary = front_door.score(archive, tmp_path / "out", model=small_bundle.path, workers=1)
    assert (summary.exit_code, summary.planned["specimens"]) == (0, 4)
    assert front_door.read_calls(tmp_path / "out").num_rows == 4
    assert front_door.open_archive(archive).index.num_rows == 8


def test_a_file_that_went_bad_and_is_mended_is_scored_again(
    mxbatch: Run, archive: Path, small_bundle: Bundle, tmp_path: Path
) -> None:
    command = ("score", archive, "--model", small_bundle.path)
    assert mxbatch(*command).returncode == 0
    file = next(archive.rglob("93003.jpg"))
    whole, times = file.read_bytes(), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_bytes(whole[:1000])
    assert mxbatch(*command).returncode == 1
    file.write_bytes(whole)
    os.utime(file, ns=times)  # restored by `cp -p`: to its size and time it never changed
    assert mxbatch(*command).returncode == 0
    assert front_door.read_quarantine(tmp_path / "mxbatch-out").num_rows == 0
    newest = front_door.read_calls(tmp_path / "mxbatch-out").to_pylist()
    assert all("radiograph_quarantined" not in row["flags"] for row in newest)


def test_a_model_that_is_used_again_speaks_again(
    mxbatch: Run, archive: Path, small_bundle: Bundle, tmp_path: Path
) -> None:
    for model in (small_bundle.path, "untrained", small_bundle.path):
        assert mxbatch("score", archive, "--model", model).returncode == 0
    assert set(front_door.read_calls(tmp_path / "mxbatch-out")["model_id"].to_pylist()) == {
        small_bundle.model_id
    }


def test_a_run_that_another_model_left_unfinished_is_mentioned_and_left_to_it(
    mxbatch: Run, archive: Path, small_bundle: Bundle, tmp_path: Path
) -> None:
    assert mxbatch("score", archive, "--model", small_bundle.path).returncode == 0
    record = next((tmp_path / "mxbatch-out").glob("runs/*/run.json"))
    record.write_text(record.read_text().replace('"finished"', '"running"'))
    other = mxbatch("score", archive, "--model", "untrained", "--json")
    assert f"with {small_bundle.model_id} was interrupted and waits for its own command" in other.stderr
    assert [run["model_id"] for run in json.loads(other.stdout)["runs"]] != [small_bundle.model_id]
    own = mxbatch("score", archive, "--model", small_bundle.path, "--json")
    assert json.loads(own.stdout)["runs"][0]["resumed"] == 1


def test_an_output_belongs_to_one_archive(
    mxbatch: Run, archive: Path, small_bundle: Bundle, radiographs: Path, tmp_path: Path
) -> None:
    assert mxbatch("score", archive, "--model", small_bundle.path).returncode == 0
    other = real_archive.build(tmp_path / "other", source=radiographs)
    refused = mxbatch("score", other, "--model", small_bundle.path)
    assert refused.returncode == 2
    assert "MX-U008" in refused.stderr
    spelled_otherwise = tmp_path / "other" / ".." / "archive"
    assert mxbatch("score", spelled_otherwise, "--model", small_bundle.path).stdout.startswith("nothing new")


def test_an_archive_that_lost_most_of_its_radiographs_is_not_believed(
    mxbatch: Run, radiographs: Path, small_bundle: Bundle, tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    for n in range(30):
        (archive / f"{n}.jpg").write_bytes((radiographs / "forepaw_a.jpg").read_bytes())
    command = ("score", archive, "--model", small_bundle.path, "--view", "forepaw")
    assert mxbatch(*command).returncode == 0
    for n in range(2, 30):
        (archive / f"{n}.jpg").unlink()
    refused = mxbatch(*command)
    assert refused.returncode == 3
    assert "MX-E010" in refused.stderr
    assert mxbatch(*command, "--allow-shrink").returncode == 0


def test_a_model_that_is_refused_leaves_no_run_behind(
    mxbatch: Run, archive: Path, small_bundle: Bundle, tmp_path: Path
) -> None:
    """Golden numbers of another machine, under checksums that hold."""
    bundle = Path(shutil.copytree(small_bundle.path, tmp_path / "bundle"))
    with np.load(bundle / "golden.npz") as golden:
        arrays = {**golden, "features": golden["features"] + 1}
    np.savez(bundle / "golden.npz", **arrays)
    sums = (bundle / "SHA256SUMS").read_text().splitlines()
    digest = hashlib.sha256((bundle / "golden.npz").read_bytes()).hexdigest()
    fresh = [f"{digest}  golden.npz" if line.endswith("golden.npz") else line for line in sums]
    (bundle / "SHA256SUMS").write_text("\n".join(fresh) + "\n")
    refused = mxbatch("score", archive, "--model", bundle)
    assert refused.returncode == 3
    assert "MX-M003" in refused.stderr.splitlines()[-1]
    assert not list((tmp_path / "mxbatch-out").glob("runs/0*"))


def test_nothing_in_the_current_folder_is_run(
    mxbatch: Run, archive: Path, small_bundle: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "safetensors.py").write_text("raise SystemExit('run from the current folder')")
    assert mxbatch("score", archive, "--model", small_bundle.path).returncode == 0


def test_a_damaged_output_is_one_line_too(
    mxbatch: Run, archive: Path, small_bundle: Bundle, tmp_path: Path
) -> None:
    assert mxbatch("score", archive, "--model", small_bundle.path).returncode == 0
    part = next((tmp_path / "mxbatch-out").glob("calls/*/*.parquet"))
    part.write_bytes(part.read_bytes()[:-50])
    done = mxbatch("report", "mxbatch-out")
    assert done.returncode == 3
    [line] = done.stderr.splitlines()
    assert "MX-E009" in line


def test_output_that_nobody_reads_to_its_end_is_no_error() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m mxbatch info --json | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
    )
    assert (done.stdout.strip(), done.stderr) == ("0", "")


def test_the_demo_goes_on_where_it_was_stopped(mxbatch: Run, tmp_path: Path) -> None:
    assert mxbatch("demo", "shown", "--specimens", 3).returncode == 0
    again = mxbatch("demo", "shown", "--specimens", 3)
    assert again.returncode == 0
    assert again.stdout.startswith("nothing new")
    (tmp_path / "mine").mkdir()
    refused = mxbatch("demo", "mine")
    assert refused.returncode == 2
    assert list((tmp_path / "mine").iterdir()) == []


MISTAKES = {
    "a typo in an option": (["ARCHIVE", "--wrokers", "2"], 2, "--wrokers"),
    "an option that cannot be": (["ARCHIVE", "--workers", "0"], 2, "workers must be at least 1"),
    "a number that is none": (["ARCHIVE", "--limit", "many"], 2, "--limit"),
    "a day that is none": (["ARCHIVE", "--since", "yesterday"], 2, "YYYY-MM-DD"),
    "an unknown view": (["ARCHIVE", "--view", "sideways"], 2, "sideways"),
    "a day in another style": (["ARCHIVE", "--since", "14/08/2012"], 2, "YYYY-MM-DD"),
    "a home that is none": (["~nobody-of-that-name/archive"], 2, "MX-U001"),
    "an unknown view in a mapping": (["ARCHIVE", "--map-view", "DV=sideways"], 2, "sideways"),
    "half a mapping": (["ARCHIVE", "--map-view", "DV"], 2, "LEFT=RIGHT"),
    "an unknown column": (["ARCHIVE", "--column", "colour=Farbe"], 2, "colour"),
    "a missing model": (["ARCHIVE", "--model", "no-such-bundle"], 2, "MX-U004"),
    "an archive that is not there": (["no-such-archive"], 3, "MX-E001"),
    "an archive that is empty": (["EMPTY"], 3, "MX-E002"),
    "a GPU that is not there": (["ARCHIVE", "--device", "cuda"], 2, "MX-U001"),
    "a device that does not exist": (["ARCHIVE", "--device", "abacus"], 2, "abacus"),
}


@pytest.mark.parametrize(("given", "code", "says"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_clear_line_and_nothing_is_written(
    mxbatch: Run, archive: Path, small_bundle: Bundle, tmp_path: Path, given: list[str], code: int, says: str
) -> None:
    (tmp_path / "empty").mkdir()
    before = contents(tmp_path)
    places = {"ARCHIVE": str(archive), "EMPTY": str(tmp_path / "empty")}
    model = [] if "--model" in given else ["--model", str(small_bundle.path)]
    done = mxbatch("score", *[places.get(word, word) for word in given], *model, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == code
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("mxbatch: MX-")
    assert says in line
    assert contents(tmp_path) == before


def test_the_environment_may_name_the_model_and_the_option_goes_before_it(
    mxbatch: Run, archive: Path, small_bundle: Bundle
) -> None:
    """With neither it is the reference: test_reference.py."""
    absent = mxbatch("score", archive, MXBATCH_MODEL="no-such-bundle")
    assert absent.returncode == 2
    assert "MX-U004" in absent.stderr
    named = mxbatch(
        "score", archive, "--model", small_bundle.path, "--dry-run", MXBATCH_MODEL="no-such-bundle"
    )
    assert named.returncode == 0, named.stderr


def test_a_view_in_the_index_that_nobody_knows_stops_the_run_before_it_begins(
    mxbatch: Run, radiographs: Path, small_bundle: Bundle, tmp_path: Path
) -> None:
    archive = tmp_path / "plain"
    archive.mkdir()
    (archive / "a.jpg").symlink_to(radiographs / "forepaw_a.jpg")
    (archive / "index.csv").write_text("file,specimen,view\na.jpg,mouse-1,sideways\n")
    before = contents(tmp_path)
    done = mxbatch("score", archive, "--model", small_bundle.path)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "MX-U002" in line
    assert "sideways" in line
    assert contents(tmp_path) == before
    mapped = mxbatch("score", archive, "--model", small_bundle.path, "--map-view", "sideways=forepaw")
    assert mapped.returncode == 0, mapped.stderr


def test_a_damaged_bundle_is_refused(mxbatch: Run, archive: Path, tmp_path: Path) -> None:
    done = mxbatch("score", archive, "--model", "untrained", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 0
    weights = next((tmp_path / "cache").rglob("weights.safetensors"))
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    refused = mxbatch("score", archive, "--model", "untrained", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert refused.returncode == 3
    [line] = refused.stderr.splitlines()
    assert "MX-M001" in line


def test_debug_shows_where_an_error_comes_from(mxbatch: Run) -> None:
    assert "Traceback" not in mxbatch("score", "nowhere", "--model", "nowhere").stderr
    assert "Traceback" in mxbatch("score", "nowhere", "--model", "nowhere", "--debug").stderr
