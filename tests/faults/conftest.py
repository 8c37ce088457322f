"""An archive that takes a few seconds to score in small shards, and a way to run the engine and disturb it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mxbatch.engine.archive.index import KEY
from mxbatch.engine.bundle import Bundle
from mxbatch.engine.drawing import draw_radiograph
from mxbatch.engine.file_formats import FILE_FORMATS
from mxbatch.engine.results import read_calls

MICE, VIEWS = 60, ("dv", "lv", "skull_dv")


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 mice in three views, every format; the table beside them names each."""
    root = tmp_path_factory.mktemp("archive")
    rows = ["file,specimen,view,centre"]
    formats = list(FILE_FORMATS.values())
    drawn = [draw_radiograph(view, seed=n, height=600, width=500) for n, view in enumerate(VIEWS)]
    for mouse in range(MICE):
        for n, view in enumerate(VIEWS):
            name = f"{mouse:03d}-{view}"
            picture = np.roll(drawn[n], (5 * mouse, 3 * mouse), axis=(0, 1))
            (root / name).write_bytes(formats[(mouse + n) % len(formats)](picture))
            rows.append(f"{name},mouse-{mouse:03d},{view},BCM")
    (root / "index.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def small_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five mice in one view, and a file that is none: three shards of two, and one row of quarantine."""
    root = tmp_path_factory.mktemp("small")
    png = FILE_FORMATS["png"]
    for mouse in range(5):
        (root / f"{mouse}.png").write_bytes(png(draw_radiograph("dv", seed=mouse, height=60, width=50)))
    (root / "5.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return root


class Session:
    """One `mxbatch.score` in a process group of its own."""

    def __init__(
        self, archive: Path, out: Path | str, bundle: Bundle, *options: object, **environment: str
    ) -> None:
        command = [
            "score",
            archive,
            "--out",
            out,
            "--model",
            bundle.path,
            "--workers",
            2,
            "--shard-radiographs",
            9,
            *options,
        ]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mxbatch", *map(str, command)],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @property
    def workers(self) -> list[int]:
        pid = self.process.pid
        try:
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            return []

    def end(self) -> tuple[int, str, str]:
        """(exit code, stdout, stderr)"""
        out, err = self.process.communicate(timeout=120)
        return self.process.returncode, out, err

    def wait_for_part(self, out: Path) -> None:
        """Until the first shard is committed."""
        while not list(out.glob("calls/*/*.parquet")):
            assert self.process.poll() is None, self.end()
            time.sleep(0.01)


def rows(out: Path | str) -> pa.Table:
    """Every row ever committed, without what may differ between two runs, in the order of the specimens."""
    table = read_calls(out, history=True).drop_columns(["run_id", "scored_at"])
    return table.sort_by([(name, "ascending") for name in KEY]).combine_chunks()


@pytest.fixture(scope="session")
def undisturbed(
    archive: Path, small_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> tuple[pa.Table, float]:
    """The rows that a run writes which nobody disturbs, and the seconds it takes."""
    out = tmp_path_factory.mktemp("undisturbed")
    started = time.monotonic()
    code, _, errors = Session(archive, out, small_bundle).end()
    assert code == 0, errors
    return rows(out), time.monotonic() - started
