"""The run folder: a part is committed or absent, and reading it back gives what was written."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mxbatch.engine import ledger
from mxbatch.engine.account import settle_shard
from mxbatch.engine.archive.index import INDEX_SCHEMA, KEY
from mxbatch.engine.errors import EnvironmentFault, OutputLocked, UsageError
from mxbatch.engine.history import read_history
from mxbatch.engine.ledger import QUARANTINE_SCHEMA, Output, RunRecord
from mxbatch.engine.plan import Plan, ShardSizes, make_plan
from mxbatch.engine.results import read_calls, read_quarantine, run_states
from mxbatch.engine.storage import write_atomically

NOTHING = QUARANTINE_SCHEMA.empty_table()


def record(run_id: str, model_id: str = "m") -> RunRecord:
    return RunRecord(run_id=run_id, archive="/archive", model_id=model_id, learned_from="radiographs")


def plan_of(*names: str, mtime_ns: int = 1) -> Plan:
    """One shard per mouse, one radiograph each."""
    rows = [
        {
            "centre": "BCM",
            "specimen_id": name,
            "procedure": "",
            "date_of_experiment": "",
            "path": f"{name}.jpg",
        }
        | {"size": 1, "mtime_ns": mtime_ns}
        for name in names
    ]
    return make_plan(
        pa.Table.from_pylist(rows, schema=INDEX_SCHEMA), model_id="m", sizes=ShardSizes(most=1, least=1)
    )


def calls(name: str, p: float = 0.5) -> pa.Table:
    return pa.table({**{column: [""] for column in KEY}, "specimen_id": [name], "p": [p]})


def refused(plan: Plan, number: int, *, transient: bool = False, code: str = "MX-D101") -> pa.Table:
    specimen = plan.shard(number).specimens[0]
    row = dict(zip(KEY, specimen.key, strict=True)) | {
        "path": specimen.radiographs[0].path,
        "code": "MX-D001" if transient else code,
        "transient": transient,
        "work_id": specimen.work_id,
    }
    return pa.Table.from_pylist([row], schema=QUARANTINE_SCHEMA)


def test_a_committed_part_reads_back_and_an_uncommitted_one_is_not_there(tmp_path: Path) -> None:
    output = Output(tmp_path)
    output.begin(record("00001-a"), plan_of("one", "two"))
    output.commit("00001-a", 1, calls("two"), NOTHING)
    assert output.committed("00001-a") == {1}
    assert read_calls(tmp_path)["specimen_id"].to_pylist() == ["two"]


@pytest.mark.parametrize("dies_at", range(1, 9))
def test_a_write_that_fails_at_any_step_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    """Every call to the operating system between opening and the folder's fsync fails once."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    calls_made = 0

    def failing(real: object) -> object:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal calls_made
            calls_made += 1
            if calls_made == dies_at:
                raise OSError(28, "No space left on device")
            return real(*args, **kwargs)  # type: ignore[operator]

        return call

    for module, name in ((os, "fsync"), (os, "open"), (Path, "open"), (Path, "replace"), (Path, "mkdir")):
        monkeypatch.setattr(module, name, failing(getattr(module, name)))
    try:
        write_atomically(path, b"new")
        outcome = {b"new"}
    except EnvironmentFault:
        outcome = {b"old", b"new"}
    monkeypatch.undo()
    assert path.read_bytes() in outcome
    assert list(tmp_path.glob(".*")) == []


def test_a_shard_without_calls_is_committed_too(tmp_path: Path) -> None:
    output = Output(tmp_path)
    plan = plan_of("one")
    output.begin(record("00001-a"), plan)
    output.commit("00001-a", 0, calls("one").slice(0, 0), refused(plan, 0, transient=False))
    assert output.committed("00001-a") == {0}
    assert read_quarantine(tmp_path).num_rows == 1


def test_committing_again_replaces_and_takes_a_stale_quarantine_away(tmp_path: Path) -> None:
    output = Output(tmp_path)
    plan = plan_of("one")
    output.begin(record("00001-a"), plan)
    output.commit("00001-a", 0, calls("one").slice(0, 0), refused(plan, 0, transient=False))
    output.commit("00001-a", 0, calls("one"), NOTHING)
    assert read_quarantine(tmp_path).num_rows == 0
    assert read_calls(tmp_path).num_rows == 1


def test_the_newest_row_of_a_specimen_wins_by_run_number_and_not_by_the_clock(tmp_path: Path) -> None:
    output = Output(tmp_path)
    for run_id, p in (("00001-20270101T000000Z", 0.1), ("00002-20200101T000000Z", 0.9)):
        output.begin(record(run_id), plan_of("one"))
        output.commit(run_id, 0, calls("one", p), NOTHING)
    assert read_calls(tmp_path)["p"].to_pylist() == [0.9]
    assert read_calls(tmp_path, history=True)["p"].to_pylist() == [0.1, 0.9]


def test_run_numbers_only_rise_also_when_the_clock_was_set_back(tmp_path: Path) -> None:
    output = Output(tmp_path)
    output.begin(record("00009-20270101T000000Z"), plan_of("one"))
    assert output.next_run_id("20200101T000000Z") == "00010-20200101T000000Z"


def test_settled_work_is_done_and_passing_trouble_is_tried_again(tmp_path: Path) -> None:
    output = Output(tmp_path)
    plan = plan_of("good", "bad", "locked", "never")
    output.begin(record("00001-a"), plan)
    output.commit("00001-a", 0, calls("good"), NOTHING)
    output.commit("00001-a", 1, calls("bad").slice(0, 0), refused(plan, 1, transient=False))
    output.commit("00001-a", 2, calls("locked").slice(0, 0), refused(plan, 2, transient=True))
    ids = {n: plan.shard(n).specimens[0].work_id for n in plan.sizes}
    history = read_history(output)
    assert history.done == {ids[0], ids[1]}
    assert history.troubled == {ids[2]}


def test_only_the_newest_work_of_a_specimen_is_settled(tmp_path: Path) -> None:
    """A file that went bad and is mended, or a model that is used again, is new work although it was done once."""
    output = Output(tmp_path)
    first, second = plan_of("one"), plan_of("one", mtime_ns=2)
    for run_id, plan in (("00001-a", first), ("00002-a", second)):
        output.begin(record(run_id), plan)
        output.commit(run_id, 0, calls("one"), NOTHING)
    assert read_history(output).done == set(second.table["work_id"].to_pylist())


def test_a_radiograph_refused_for_its_size_is_tried_again_when_more_is_allowed(tmp_path: Path) -> None:
    output = Output(tmp_path)
    plan = plan_of("one")
    output.begin(record("00001-a"), plan)
    output.commit("00001-a", 0, calls("one").slice(0, 0), refused(plan, 0, code="MX-D503"))
    assert read_history(output, max_megapixels=64).done
    assert read_history(output, max_megapixels=65).troubled


def test_a_radiograph_leaves_the_quarantine_when_a_later_run_can_use_it(tmp_path: Path) -> None:
    output = Output(tmp_path)
    plan = plan_of("one")
    output.begin(record("00001-a"), plan)
    output.commit("00001-a", 0, calls("one").slice(0, 0), refused(plan, 0, transient=True))
    output.begin(record("00002-a"), plan)
    assert read_quarantine(tmp_path).num_rows == 1
    output.commit("00002-a", 0, calls("one"), NOTHING)
    assert read_quarantine(tmp_path).num_rows == 0


def test_a_second_holder_is_turned_away_and_told_who_holds(tmp_path: Path) -> None:
    output = Output(tmp_path)
    with output.lock(), pytest.raises(OutputLocked, match=f"process {os.getpid()}"), Output(tmp_path).lock():
        pass
    with output.lock():
        pass


def test_a_file_system_without_locks_is_refused_and_not_taken_for_a_held_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(EnvironmentFault, match=r"MX-E005 .*cannot be locked"), Output(tmp_path).lock():
        pass


def test_the_lock_sweeps_up_what_a_crash_left(tmp_path: Path) -> None:
    output = Output(tmp_path)
    output.begin(record("00001-a"), plan_of("one"))
    output.commit("00001-a", 0, calls("one"), NOTHING)
    torn = tmp_path / output.calls_folder("00001-a") / ".part-00001.parquet.77.tmp"
    torn.write_bytes(b"PAR1")
    unborn = tmp_path / output.run_folder("00002-a")
    unborn.mkdir()
    (unborn / "plan.parquet").write_bytes(b"")
    with output.lock():
        assert not torn.exists()
        assert not unborn.exists()
    assert [run.run_id for run in output.runs()] == ["00001-a"]


def test_a_damaged_plan_or_record_is_one_clear_error(tmp_path: Path) -> None:
    output = Output(tmp_path)
    output.begin(record("00001-a"), plan_of("one"))
    output.commit("00001-a", 0, calls("one"), NOTHING)
    plan = tmp_path / output.run_folder("00001-a") / "plan.parquet"
    plan.write_bytes(plan.read_bytes()[:100])
    with pytest.raises(EnvironmentFault, match="MX-E008"):
        read_history(output)
    (tmp_path / output.run_folder("00001-a") / "run.json").write_text("{")
    with pytest.raises(EnvironmentFault, match="MX-E008"):
        output.runs()


def test_a_record_of_a_later_version_with_more_fields_is_still_read(tmp_path: Path) -> None:
    output = Output(tmp_path)
    output.begin(record("00001-a"), plan_of("one"))
    path = tmp_path / output.run_folder("00001-a") / "run.json"
    path.write_text(path.read_text().replace("{", '{"energy_kwh": 3,', 1))
    assert output.runs()[0].run_id == "00001-a"
    assert run_states(tmp_path)[0]["shards_committed"] == 0


def test_a_folder_without_runs_is_a_usage_error(tmp_path: Path) -> None:
    for read in (read_calls, read_quarantine, run_states):
        with pytest.raises(UsageError, match="MX-U005"):
            read(tmp_path)


def test_no_flipped_byte_of_a_part_changes_a_value_without_a_word(tmp_path: Path) -> None:
    """Parts carry page checksums; what they do not cover is structure that Parquet itself checks."""
    path = tmp_path / "part.parquet"
    written = calls("one")
    ledger.write_parquet(path, written)
    damaged = bytearray(path.read_bytes())
    found = 0
    for position in range(4, 400):
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            assert pq.read_table(path, page_checksum_verification=True) == written, position
        except (OSError, pa.ArrowException):
            found += 1
        damaged[position] ^= 0xFF
    assert found > 300


def test_a_damaged_part_is_an_error_that_names_it(tmp_path: Path) -> None:
    output = Output(tmp_path)
    output.begin(record("00001-a"), plan_of("one"))
    output.commit("00001-a", 0, calls("one"), NOTHING)
    part = tmp_path / output.calls_part("00001-a", 0)
    damaged = bytearray(part.read_bytes())
    damaged[40] ^= 1
    part.write_bytes(damaged)
    with pytest.raises(EnvironmentFault, match=f"MX-E009 {part}"):
        read_calls(tmp_path)


def test_every_write_reaches_the_disk_before_its_name_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(Path, "replace", lambda old, new: (done.append("rename"), replace(old, new))[1])
    write_atomically(tmp_path / "file", b"new")
    assert done == ["fsync", "rename", "fsync"]


def test_the_account_balances_only_when_every_specimen_has_its_row_or_is_in_quarantine() -> None:
    shard = plan_of("one").shard(0)
    key, path = shard.specimens[0].key, shard.specimens[0].radiographs[0].path
    assert settle_shard(shard, [key], set())["calls"] == 1
    assert settle_shard(shard, [], {path})["specimens_lost"] == 1
    for called, paths in (([], set()), ([key, key], set()), ([key], {path}), ([("x", *key[1:])], set())):
        with pytest.raises(EnvironmentFault, match="MX-E007"):
            settle_shard(shard, called, paths)
