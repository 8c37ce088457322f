"""The first worker starts while the archive is still read: only where there will be work, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mxbatch.engine import score as score_module
from mxbatch.engine.bundle import Bundle
from mxbatch.engine.dispatch.local import WorkerProcess
from mxbatch.engine.drawing import draw_radiograph
from mxbatch.engine.errors import EnvironmentFault, MxbatchError, OutputLocked, UsageError
from mxbatch.engine.file_formats import FILE_FORMATS
from mxbatch.engine.ledger import Output
from mxbatch.engine.results import read_calls
from mxbatch.engine.score import Summary, score

MICE = 3
Score = Callable[..., Summary]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    root = tmp_path / "archive"
    root.mkdir()
    for mouse in range(MICE):
        picture = draw_radiograph("dv", seed=mouse, height=60, width=50)
        (root / f"{mouse}.png").write_bytes(FILE_FORMATS["png"](picture))
    return root


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[WorkerProcess]:
    """Every worker process that is started, in order."""
    workers: list[WorkerProcess] = []
    begin = WorkerProcess.__init__

    def noted(worker: WorkerProcess, model_threads: int) -> None:
        begin(worker, model_threads)
        workers.append(worker)

    monkeypatch.setattr(WorkerProcess, "__init__", noted)
    return workers


@pytest.fixture
def scored(archive: Path, out: Path, small_bundle: Bundle) -> Score:
    """One run with one worker."""

    def run(**options: Any) -> Summary:
        options = {"workers": 1, "device": "cpu", "runtime": "eager", "model": small_bundle.path, **options}
        return score(archive, out, **options)

    return run


def while_planning(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Have `act` called once the archive is read, before the plan is made."""
    real = score_module.make_plan

    def planned(*arguments: Any, **options: Any) -> Any:
        act()
        return real(*arguments, **options)

    monkeypatch.setattr(score_module, "make_plan", planned)


def gone(worker: WorkerProcess) -> bool:
    return worker.process.poll() is not None


def test_a_first_run_starts_its_worker_before_it_reads_the_archive_and_a_run_without_news_starts_none(
    monkeypatch: pytest.MonkeyPatch, started: list[WorkerProcess], scored: Score, out: Path
) -> None:
    at_reading: list[int] = []
    real = score_module.open_archive
    monkeypatch.setattr(
        score_module, "open_archive", lambda *a, **o: (at_reading.append(len(started)), real(*a, **o))[1]
    )
    assert scored().planned["specimens"] == MICE
    assert scored().planned["specimens"] == 0
    assert (at_reading, len(started)) == ([1, 1], 1)  # and the early one is the one that did the work
    assert gone(started[0])
    assert not list(out.glob("runs/*/workers.log"))


def test_looking_at_what_would_be_done_starts_none(
    started: list[WorkerProcess], scored: Score, out: Path
) -> None:
    assert scored(dry_run=True).planned["specimens"] == MICE
    assert started == []
    assert not out.exists()


def test_a_held_output_starts_none(started: list[WorkerProcess], scored: Score, out: Path) -> None:
    (out / "runs").mkdir(parents=True)
    with Output(out).lock(), pytest.raises(OutputLocked):
        scored()
    assert started == []


@pytest.mark.parametrize("wrong", [{"model": "no-such-bundle"}, {"runtime": "abacus"}, {"limit": 0}])
def test_a_mistake_starts_none(started: list[WorkerProcess], scored: Score, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        scored(**wrong)
    assert started == []


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C reaches these tests also where a shell runs them in the background, and has them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("ends", ["a view that nobody knows", "an archive without radiographs", "Ctrl-C"])
def test_a_run_that_ends_before_its_plan_leaves_neither_process_nor_file(
    monkeypatch: pytest.MonkeyPatch,
    started: list[WorkerProcess],
    scored: Score,
    archive: Path,
    out: Path,
    ends: str,
) -> None:
    expected: type[BaseException] = MxbatchError
    if ends == "Ctrl-C":
        expected = KeyboardInterrupt
        while_planning(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGINT))
    elif ends == "a view that nobody knows":
        (archive / "index.csv").write_text("file,specimen,view\n0.png,mouse,sideways\n")
    else:
        for file in archive.iterdir():
            file.unlink()
    with pytest.raises(expected):
        scored()
    assert [gone(worker) for worker in started] == [True]
    assert not list(out.glob("runs/0*"))


def test_a_worker_that_dies_while_it_waits_is_replaced_like_one_that_dies_at_its_start(
    monkeypatch: pytest.MonkeyPatch, started: list[WorkerProcess], scored: Score, out: Path
) -> None:
    def strike() -> None:
        started[0].process.kill()
        started[0].process.wait()

    while_planning(monkeypatch, strike)
    assert scored().exit_code == 0
    assert read_calls(out).num_rows == MICE
    assert [gone(worker) for worker in started] == [True, True]


SITE = """
import os, sys
if "mxbatch.engine.dispatch.worker" in sys.orig_argv:
    os.write(2, b"before its job\\n")
    os.environ["SEEN"] = " ".join(os.environ.get(n, "") for n in ("OMP_NUM_THREADS", "MALLOC_ARENA_MAX"))
    import mxbatch.engine.feed as feed
    real = feed.decode
    def decode(*arguments):
        os.write(1, f"at its work, {os.environ['SEEN']}\\n".encode())
        return real(*arguments)
    feed.decode = decode
"""


def test_what_it_says_before_its_job_and_during_it_is_in_the_log_of_its_run(
    monkeypatch: pytest.MonkeyPatch,
    started: list[WorkerProcess],
    scored: Score,
    out: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), *sys.path]))
    scored()
    [log] = out.glob("runs/*/workers.log")
    assert sorted(log.read_text().splitlines()) == [*["at its work, 1 2"] * MICE, "before its job"]
    assert (len(started), capfd.readouterr()) == (1, ("", ""))


KILLED = """
import os, signal, sys
from mxbatch.engine import score as module
from mxbatch.engine.dispatch import fleet

class Noted(fleet.WorkerProcess):
    def __init__(self, model_threads):
        super().__init__(model_threads)
        print(self.process.pid, flush=True)

fleet.WorkerProcess = Noted
module.make_plan = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
module.score(sys.argv[1], sys.argv[2], model=sys.argv[3], device="cpu")
"""


def test_it_does_not_outlive_a_run_that_is_killed_while_it_plans(
    archive: Path, out: Path, small_bundle: Bundle
) -> None:
    command = [sys.executable, "-c", KILLED, archive, out, small_bundle.path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    process = Path("/proc") / done.stdout.strip()
    for _ in range(3000):
        if not process.exists() or process.joinpath("stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.01)
    raise AssertionError("the worker is still there 30 s later")


def test_without_room_for_a_process_the_run_says_so_when_it_needs_one(
    monkeypatch: pytest.MonkeyPatch, scored: Score
) -> None:
    def full(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    reached: list[bool] = []
    monkeypatch.setattr(WorkerProcess, "__init__", full)
    while_planning(monkeypatch, lambda: reached.append(True))
    with pytest.raises(EnvironmentFault, match="Resource temporarily unavailable"):
        scored()
    assert reached == [True]
