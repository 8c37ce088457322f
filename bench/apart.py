"""A whole `score` in a process of its own, with the peaks of memory that it and its workers reached.

The peaks are the kernel's own (VmHWM), read from every worker while it lives: what the operating system tells of
children that have ended includes the process that they were forked from, so it would grow with the archive.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

from mxbatch.engine.errors import EnvironmentFault

LOOK_S = 0.1
"""How often workers are looked at. A peak of theirs is missed only if it is reached in the last such moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What one `score` was like."""

    record: dict[str, Any]
    """`run.json`."""
    around_s: float
    """Indexing and planning before the run, accounting and the report after it."""
    run_mb: float
    """Peak of the process that plans and supervises."""
    worker_mb: float
    """Peak of the largest worker."""

    @property
    def rate(self) -> float:
        """Radiographs per second, from the first ready worker to the last commit."""
        work_s = self.record["seconds"]["wall"] - self.record["seconds"]["startup"]
        return float(self.record["planned"]["radiographs"] / work_s)


def score_apart(archive: Path, out: Path, model: Path, **settings: Any) -> Scored:
    """Score `archive` into the new folder `out`. `settings` are those of `mxbatch.score`.

    Raises EnvironmentFault MX-E006 with the process's last words where it fails.
    """
    order = json.dumps({"archive": str(archive), "out": str(out), "model": str(model), **settings})
    command = [sys.executable, "-P", "-m", "mxbatch.bench.apart", order]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise EnvironmentFault("MX-E006", f"the measured run failed: {last}", path=archive)
    return Scored(**json.loads(done.stdout.splitlines()[-1]))


def peak_mb(pid: int | str) -> float:
    """The most memory that a living process has ever had, in MB; 0.0 once it is gone."""
    with suppress(OSError):
        if found := re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text()):
            return int(found[1]) / 1000
    return 0.0


class _Watch(Thread):
    """Remembers the largest peak of this process's children until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.worst_mb = 0.0
        self.enough = Event()

    def run(self) -> None:
        while not self.enough.wait(LOOK_S):
            for listing in Path("/proc/self/task").glob("*/children"):
                with suppress(OSError):
                    peaks = (peak_mb(pid) for pid in listing.read_text().split())
                    self.worst_mb = max(self.worst_mb, *peaks, 0.0)


def main(order: str) -> None:
    from mxbatch.engine.score import score

    watch = _Watch()
    watch.start()
    started = time.perf_counter()
    record = score(**json.loads(order)).runs[0]
    whole_s = time.perf_counter() - started
    watch.enough.set()
    watch.join()
    scored = Scored(
        record=asdict(record),
        around_s=whole_s - record.seconds["wall"],
        run_mb=peak_mb("self"),
        worker_mb=watch.worst_mb,
    )
    sys.stdout.write(json.dumps(asdict(scored)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
