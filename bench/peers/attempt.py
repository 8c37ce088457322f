"""One contestant on one archive, in a session of its own: how long it took, how it ended, and what it delivered."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

QUIET = {
    "DAFT_ANALYTICS_ENABLED": "0",
    "DAFT_PROGRESS_BAR": "0",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""No contestant asks the network for anything, or says anything to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """How it went."""

    seconds: float
    """From the start of the process to its end."""
    code: int | None
    """Exit status, negative for a signal; None where it was stopped because it did not end."""
    rows: int
    """Radiographs that have an answer."""
    finished: bool
    """Ended by itself, with success."""
    last_words: str


def attempt(
    command: Sequence[str], out: Path, *, limit_s: float, environment: Mapping[str, str] | None = None
) -> Attempt:
    """Run `command`, which writes into `out`, and stop it and all that it started after `limit_s`."""
    with tempfile.TemporaryFile() as words:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            env={**os.environ, **QUIET, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            seconds = time.perf_counter() - started
            # what it left behind, too; and all of it when somebody stops us
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        words.seek(0)
        said = words.read().decode(errors="replace").strip().splitlines()
    rows = rows_in(out)
    return Attempt(
        seconds=seconds,
        code=code,
        rows=rows or 0,
        finished=rows is not None and (code == 0 or (code == 1 and _is_run_folder(out))),
        last_words=said[-1] if said else "it said nothing",
    )


def rows_in(out: Path) -> int | None:
    """Radiographs that have an answer in `out`, whoever wrote it; None where there is no answer at all."""
    if _is_run_folder(out):
        records = [json.loads(path.read_text()) for path in out.glob("runs/*/run.json")]
        return sum(int(record["counts"].get("radiographs_used", 0)) for record in records)
    tables: list[int] = [pq.read_metadata(path).num_rows for path in out.rglob("*.parquet")]
    for path in out.rglob("*.csv"):
        with path.open(newline="") as file:
            tables.append(max(0, sum(1 for _ in csv.reader(file)) - 1))  # without its head
    return sum(tables) if tables else None


def _is_run_folder(out: Path) -> bool:
    """Of mxbatch, to which exit status 1 says that something is in quarantine."""
    return (out / "runs").is_dir()
