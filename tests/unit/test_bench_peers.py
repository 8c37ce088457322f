"""The race of peers, without running one: who can run, what a rate is, what is no result, what an end is called."""

from __future__ import annotations

import csv
import json
import re
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mxbatch.bench.peers.attempt import Attempt, attempt, rows_in
from mxbatch.bench.peers.faults import GOOD, verdict
from mxbatch.bench.peers.order import padded
from mxbatch.bench.peers.race import Course, complaint, startup_s, steady
from mxbatch.bench.peers.table import PEERS, Peer, peers_named
from mxbatch.engine.errors import UsageError

COURSE = Course(radiographs=100, rounds=1)


def ended(seconds: float = 10.0, *, code: int | None = 0, rows: int = 100, finished: bool = True) -> Attempt:
    return Attempt(seconds=seconds, code=code, rows=rows, finished=finished, last_words="last words")


def short(seconds: float = 5.0) -> Attempt:
    return ended(seconds, rows=COURSE.few)


def test_every_peer_is_a_file_with_a_run() -> None:
    folder = Path(__file__).parents[2] / "bench" / "peers"
    for peer in PEERS:
        assert "def run(order: Order) -> None:" in (folder / f"{peer.name}.py").read_text("utf-8")


def test_an_unknown_peer_is_answered_with_the_known_ones() -> None:
    assert peers_named([]) == list(PEERS)
    assert [peer.name for peer in peers_named(["loop"])] == ["loop"]
    with pytest.raises(UsageError, match="no peer 'spark'; known are loop, "):
        peers_named(["spark"])


def test_a_missing_library_is_named_with_the_command_that_installs_it() -> None:
    peer = Peer(name="x", title="", modules=("nowhere.at.all",), packages=("nowhere", "else"))
    assert peer.why_not("cpu", ["jpeg"], "float32") == (
        "nowhere.at.all is not installed: pip install nowhere else"
    )


def test_a_peer_for_gpus_says_that_it_needs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mxbatch.bench.peers.table.count_gpus", lambda: 0)
    for peer in PEERS:
        if peer.gpu:
            assert peer.why_not("cuda", ["jpeg"], "float32") == "needs an NVIDIA GPU"


@pytest.mark.parametrize(
    ("formats", "precision", "why"),
    [
        (["dicom", "jpeg"], "float32", "does not read dicom: --format jpeg"),
        (["jpeg"], "bfloat16", "does not compute in bfloat16"),
        (["jpeg"], "float32", None),
    ],
)
def test_what_a_peer_cannot_is_said_before_it_runs(
    formats: list[str], precision: str, why: str | None
) -> None:
    peer = Peer(
        name="x", title="", modules=("json",), packages=(), formats=("jpeg",), precisions=("float32",)
    )
    assert peer.why_not("cpu", formats, precision) == why


def test_a_rate_is_the_difference_of_a_long_and_a_short_run() -> None:
    few, many = short(5.0), ended(12.0)
    assert steady(COURSE, few, many) == pytest.approx((100 - 16) / 7)
    assert startup_s(COURSE, few, many) == pytest.approx(5 - 16 / 12)


@pytest.mark.parametrize(
    ("few", "many", "words"),
    [
        (short(), ended(code=None, finished=False), "did not end within 900 s"),
        (short(), ended(code=1, finished=False), r"failed \(exit status 1\): last words"),
        (short(), ended(rows=99), "answered for 99 of 100 radiographs"),
        (short(6.0), ended(5.9), "too few radiographs"),
    ],
)
def test_who_does_not_answer_for_every_radiograph_gets_no_rate(
    few: Attempt, many: Attempt, words: str
) -> None:
    why = complaint((few, many), COURSE)
    assert why is not None
    assert re.search(words, why)


def test_who_does_has_nothing_to_complain_of() -> None:
    assert complaint((short(), ended()), COURSE) is None


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (ended(code=1, rows=12), "finished; 12 of 12 good ones scored"),
        (ended(code=None, rows=3, finished=False), "hung, stopped after 10 s; 3 of 12 good ones scored"),
        (ended(code=-11, rows=0, finished=False), "died of signal 11; 0 of 12 good ones scored"),
        (ended(code=1, rows=0, finished=False), "stopped with exit status 1; 0 of 12 good ones scored"),
    ],
)
def test_an_end_is_called_by_its_name(run: Attempt, words: str) -> None:
    assert verdict(run) == words
    assert GOOD == 12


def test_answers_are_counted_whoever_wrote_them(tmp_path: Path) -> None:
    assert rows_in(tmp_path / "nothing") is None
    (tmp_path / "a" / "deep").mkdir(parents=True)
    for name in ("1", "deep/2"):
        pq.write_table(pa.table({"path": ["x", "y"]}), tmp_path / "a" / f"{name}.parquet")
    assert rows_in(tmp_path / "a") == 4
    (tmp_path / "b").mkdir()
    with (tmp_path / "b" / "answers.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path"], ["x"], ["with\nbreak"]])
    assert rows_in(tmp_path / "b") == 2
    (tmp_path / "b" / "answers.csv").write_text("")
    assert rows_in(tmp_path / "b") == 0
    run = tmp_path / "c" / "runs" / "00001"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"counts": {"radiographs_used": 7}}))
    assert rows_in(tmp_path / "c") == 7


def test_a_contestant_that_does_not_end_is_stopped_with_all_that_it_started(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time, pathlib;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        "pathlib.Path(sys.argv[1]).write_text(str(child.pid)); time.sleep(600)"
    )
    mark = tmp_path / "child"
    run = attempt([sys.executable, "-c", code, str(mark)], tmp_path / "out", limit_s=5)
    assert run.code is None
    assert not run.finished
    if mark.exists() and (child := mark.read_text()):  # on a very busy machine it may not have come so far
        for _ in range(300):  # a kill takes a moment
            if has_ended(child):
                return
            time.sleep(0.1)
        pytest.fail(f"process {child} goes on")


def has_ended(process: str) -> bool:
    """Whether it is gone, or waits for nothing but to be asked how it ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_the_last_words_of_a_contestant_are_kept(tmp_path: Path) -> None:
    code = "import sys; print('first'); sys.exit('no such device')"
    run = attempt([sys.executable, "-c", code], tmp_path / "out", limit_s=60)
    assert (run.code, run.finished, run.last_words) == (1, False, "no such device")


@pytest.mark.parametrize(("count", "batch"), [(3, 5), (5, 5)])
def test_the_last_batch_of_a_compiled_peer_is_filled_up_with_zeros(count: int, batch: int) -> None:
    import torch

    images = torch.ones(count, 1, 2, 2, dtype=torch.uint8)
    whole = padded(images, batch)
    assert whole.shape == (batch, 1, 2, 2)
    assert whole[:count].equal(images)
    assert not whole[count:].any()
