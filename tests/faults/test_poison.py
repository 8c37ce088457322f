"""A radiograph that takes its worker down, a full output, a vanished archive: the run stays in charge."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pyarrow as pa
import pytest
from faults.conftest import MICE, Session, rows

from mxbatch.engine.bundle import Bundle
from mxbatch.engine.results import read_quarantine

SEGFAULT = """
import os, signal
import mxbatch.engine.feed as feed
real = feed.decode
def decode(data, contract, limits):
    if data.endswith(b"POISON"):
        os.kill(os.getpid(), signal.SIGSEGV)
    return real(data, contract, limits)
feed.decode = decode
"""


@pytest.fixture
def own_archive(archive: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(archive, tmp_path / "archive"))


def test_a_radiograph_that_kills_its_worker_ends_in_quarantine_and_its_neighbours_are_scored(
    own_archive: Path, small_bundle: Bundle, tmp_path: Path, undisturbed: tuple[pa.Table, float]
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SEGFAULT)
    for name in ("007-lv", "031-dv"):
        with (own_archive / name).open("ab") as file:
            file.write(b"POISON")
    session = Session(own_archive, tmp_path / "out", small_bundle, PYTHONPATH=str(tmp_path / "site"))
    code, _, errors = session.end()
    assert code == 1, errors
    quarantine = read_quarantine(tmp_path / "out").to_pylist()
    assert {(row["path"], row["code"], row["name"]) for row in quarantine} == {
        ("007-lv", "MX-D090", "WORKER_CRASH"),
        ("031-dv", "MX-D090", "WORKER_CRASH"),
    }
    table = rows(tmp_path / "out")
    assert table.num_rows == MICE
    hit = [7, 31]
    assert [table["views_missing"][n].as_py()[:1] for n in hit] == [["lv"], ["dv"]]
    untouched = [n for n in range(MICE) if n not in hit]
    assert table.take(untouched).equals(undisturbed[0].take(untouched))


HANG = """
import time
import mxbatch.engine.feed as feed
real = feed.decode
def decode(data, contract, limits):
    while data.endswith(b"POISON"):
        time.sleep(1)
    return real(data, contract, limits)
feed.decode = decode
"""


def test_a_radiograph_that_hangs_its_worker_ends_in_quarantine_like_one_that_kills_it(
    own_archive: Path, small_bundle: Bundle, tmp_path: Path, undisturbed: tuple[pa.Table, float]
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(HANG)
    with (own_archive / "001-lv").open("ab") as file:
        file.write(b"POISON")
    session = Session(
        own_archive,
        tmp_path / "out",
        small_bundle,
        *("--limit", 6, "--patience", 6),
        PYTHONPATH=str(tmp_path / "site"),
    )
    code, _, errors = session.end()
    assert code == 1, errors
    assert "a worker did not get on for 6 s at 001-lv: done again, with care" in errors
    quarantine = read_quarantine(tmp_path / "out").to_pylist()
    assert [(row["path"], row["code"]) for row in quarantine] == [("001-lv", "MX-D090")]
    untouched = [0, 2, 3, 4, 5]
    assert rows(tmp_path / "out").take(untouched).equals(undisturbed[0].take(untouched))


def test_an_archive_that_vanishes_stops_the_run_and_puts_nothing_in_quarantine(
    own_archive: Path, small_bundle: Bundle, tmp_path: Path, undisturbed: tuple[pa.Table, float]
) -> None:
    out = tmp_path / "out"
    session = Session(own_archive, out, small_bundle)
    session.wait_for_part(out)
    own_archive.rename(tmp_path / "elsewhere")
    code, _, errors = session.end()
    assert code == 3
    assert errors.splitlines()[-1].startswith("mxbatch: MX-E001 ")
    assert read_quarantine(out).num_rows == 0
    (tmp_path / "elsewhere").rename(own_archive)
    assert Session(own_archive, out, small_bundle).end()[0] == 0
    assert rows(out).equals(undisturbed[0])


STILLBORN = """
import os, sys
if "mxbatch.engine.dispatch.worker" in sys.orig_argv:
    os.write(2, b"libfoo.so.1: cannot open shared object file")
    os._exit(127)
"""


def test_workers_that_cannot_start_end_the_run_and_what_they_said_is_kept(
    archive: Path, small_bundle: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(STILLBORN)
    session = Session(archive, tmp_path / "out", small_bundle, PYTHONPATH=str(tmp_path / "site"))
    code, _, errors = session.end()
    assert code == 3
    [log] = (tmp_path / "out").glob("runs/*/workers.log")
    assert "MX-E006" in errors.splitlines()[-1]
    assert str(log) in errors.splitlines()[-1]
    assert "libfoo" in log.read_text()


def test_two_first_runs_at_the_same_moment_make_one_run(
    archive: Path, small_bundle: Bundle, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    sessions = [Session(archive, out, small_bundle) for _ in range(2)]
    codes = sorted(session.end()[0] for session in sessions)
    assert codes == [0, 4]
    assert rows(out).num_rows == MICE


def test_a_second_run_on_the_same_output_is_turned_away(
    archive: Path, small_bundle: Bundle, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = Session(archive, out, small_bundle)
    while not (out / "runs").exists():
        time.sleep(0.01)
    code, printed, errors = Session(archive, out, small_bundle).end()
    assert (code, printed) == (4, "")
    assert "MX-L001" in errors
    assert first.end()[0] == 0


def test_an_output_that_takes_no_more_writing_stops_the_run_with_3_and_it_resumes(
    archive: Path, small_bundle: Bundle, tmp_path: Path, undisturbed: tuple[pa.Table, float]
) -> None:
    """The folder of the parts becomes a file, so that every commit fails from then on."""
    out = tmp_path / "out"
    session = Session(archive, out, small_bundle)
    session.wait_for_part(out)
    calls = next(out.glob("calls/run=*"))
    calls.rename(out / "kept")
    calls.write_text("in the way")
    code, _, errors = session.end()
    assert code == 3
    assert "MX-E005" in errors.splitlines()[-1]
    calls.unlink()
    (out / "kept").rename(calls)
    assert Session(archive, out, small_bundle).end()[0] == 0
    assert rows(out).equals(undisturbed[0])
