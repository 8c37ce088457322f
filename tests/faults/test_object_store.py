"""An output in an object store, while workers die, the run is killed, and the store refuses, breaks or is not there."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conftest import Run
from faults.conftest import Session, rows
from faults.crash_driver import SETTINGS, inline_fleet
from s3_server import Server

from mxbatch.engine import score as score_module
from mxbatch.engine.bundle import Bundle
from mxbatch.engine.errors import EnvironmentFault, UsageError
from mxbatch.engine.ledger import Output
from mxbatch.engine.results import read_calls, run_states
from mxbatch.engine.score import Summary, score
from mxbatch.engine.storage import LOCK

Undisturbed = tuple[pa.Table, float]


def wait_for_part(session: Session, address: str) -> None:
    """Until the first shard is committed."""
    while not any(name.startswith("run=") for name in Output(address).store.names("calls")):
        assert session.process.poll() is None, session.end()
        time.sleep(0.05)


def test_a_run_that_was_killed_is_finished_by_the_same_command_at_once(
    s3: Server, archive: Path, small_bundle: Bundle, undisturbed: Undisturbed
) -> None:
    out = s3.address("killed")
    session = Session(archive, out, small_bundle)
    wait_for_part(session, out)
    os.killpg(session.process.pid, signal.SIGKILL)
    session.end()
    assert len(Output(out).store.names(LOCK)) == 1
    code, _, errors = Session(archive, out, small_bundle).end()
    assert code == 0, errors
    assert "finishing run 00001" in errors
    assert rows(out).equals(undisturbed[0])
    assert Output(out).store.names(LOCK) == []


def test_a_worker_that_dies_is_replaced(
    s3: Server, archive: Path, small_bundle: Bundle, undisturbed: Undisturbed
) -> None:
    out = s3.address("worker")
    session = Session(archive, out, small_bundle)
    wait_for_part(session, out)
    os.kill(session.workers[0], signal.SIGKILL)
    code, _, errors = session.end()
    assert code == 0, errors
    assert rows(out).equals(undisturbed[0])


def test_a_second_run_is_turned_away_with_4(
    mxbatch: Run, s3: Server, small_archive: Path, small_bundle: Bundle
) -> None:
    out = s3.address("held")
    with Output(out).lock():
        s3.asked.clear()
        done = mxbatch("score", small_archive, "--out", out, "--model", small_bundle.path)
    assert done.returncode == 4
    [line] = done.stderr.splitlines()
    assert f"MX-L001 s3://results/held: held by process {os.getpid()} on " in line
    assert all(LOCK in request for request in s3.wrote())


def test_a_store_that_breaks_in_the_middle_is_one_line_and_a_run_that_goes_on_later(
    s3: Server, archive: Path, small_bundle: Bundle, undisturbed: Undisturbed
) -> None:
    out = s3.address("breaks")
    with s3.breaking(lambda method, path: method == "PUT" and "/calls/" in path and "part-00000" not in path):
        code, words, errors = Session(archive, out, small_bundle).end()
    assert (code, words) == (3, ""), errors
    line = errors.splitlines()[-1]
    assert line.startswith("mxbatch: MX-E016 s3://results/breaks/calls/run=00001-"), line
    assert "PutObject failed" in line
    assert not [word for word in s3.private() if word in errors]
    assert run_states(out)[0]["state"] == "running"
    code, _, errors = Session(archive, out, small_bundle).end()
    assert code == 0, errors
    assert rows(out).equals(undisturbed[0])


def test_a_store_that_is_not_there_is_one_line(
    mxbatch: Run, s3: Server, small_archive: Path, small_bundle: Bundle
) -> None:
    nowhere = s3.address("x").replace(s3.endpoint, "127.0.0.1:9")
    done = mxbatch("score", small_archive, "--out", nowhere, "--model", small_bundle.path)
    assert (done.returncode, done.stdout) == (3, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("mxbatch: MX-E016 s3://results/x/runs: ListObjectsV2 failed: NETWORK_CONNECTION.")


def test_a_part_that_cannot_be_fetched_now_is_not_called_damaged(
    s3: Server, small_archive: Path, small_bundle: Bundle, inline: None
) -> None:
    """What is damaged is to be removed; what is out of reach is to be left where it is."""
    out = s3.address("fetch")
    score(small_archive, out, model=small_bundle.path, **SETTINGS)
    s3.status = "403 Forbidden"
    for part in ("part-00001", "run.json"):
        broken = s3.breaking(lambda method, path, part=part: part in path)  # type: ignore[misc]
        with broken, pytest.raises(EnvironmentFault, match="MX-E016"):
            read_calls(out)


@pytest.fixture
def inline(s3: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Workers in this process, with a scorer that needs no torch."""
    monkeypatch.setattr(score_module, "open_fleet", inline_fleet)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(s3, "status", s3.status)


def test_a_run_cut_off_at_any_request_loses_nothing_and_doubles_nothing(
    s3: Server, small_archive: Path, small_bundle: Bundle, inline: None, tmp_path: Path
) -> None:
    """From some request on, the store takes nothing any more: as if the run, or its network, had died there."""
    s3.status = "403 Forbidden"  # which nobody tries again

    def scored(out: Any) -> Summary:
        return score(small_archive, out, model=small_bundle.path, **SETTINGS)

    scored(tmp_path / "out")
    expected = rows(tmp_path / "out")
    cut_at: list[str] = []
    for last in count(1):
        out, changes = s3.address(f"cut-{last}"), count(1)
        first: list[str] = []

        def cut(method: str, path: str, *, n: Any = changes, last: int = last, first: Any = first) -> bool:
            if method in ("GET", "HEAD") or next(n) < last:
                return False
            first.append(path)
            return True

        with s3.breaking(cut), suppress(EnvironmentFault):
            scored(out)
        if not first:
            break
        cut_at.append(first[0])
        store = Output(out).store
        for claim in store.names(LOCK):  # as when its time is up; this process lives on
            store.remove(f"{LOCK}/{claim}")
        scored(out)
        assert rows(out).equals(expected), first[0]
    for kind in (LOCK, "plan.parquet", "run.json", "/calls/", "/quarantine/", "report.html"):
        assert any(kind in path for path in cut_at), kind


def test_a_prefix_without_runs_is_a_usage_error(s3: Server) -> None:
    with pytest.raises(UsageError, match=r"MX-U005 s3://results/nothing: there is no run here"):
        read_calls(s3.address("nothing"))
