"""A committed file that the disk gave back torn, and an archive that is emptied: found, named, and mended by a run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults.conftest import rows
from faults.crash_driver import SETTINGS, inline_fleet

from mxbatch.engine import score as score_module
from mxbatch.engine.bundle import Bundle
from mxbatch.engine.dispatch.job import Tally
from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.ledger import Output
from mxbatch.engine.progress import Silent
from mxbatch.engine.results import read_calls, read_quarantine
from mxbatch.engine.score import Summary, score

Scored = Callable[..., Summary]


@pytest.fixture
def scored(
    small_archive: Path, small_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Scored:
    """Run `score` with a worker in this process, into `tmp_path / "out"`."""
    monkeypatch.setattr(score_module, "open_fleet", inline_fleet)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(archive: Path = small_archive, **more: Any) -> Summary:
        return score(archive, tmp_path / "out", model=small_bundle.path, **SETTINGS, **more)

    return run


def test_a_part_torn_at_any_byte_is_an_error_that_names_it(scored: Scored, tmp_path: Path) -> None:
    scored()
    part = sorted(tmp_path.glob("out/calls/*/*.parquet"))[1]
    output, name = Output(tmp_path / "out"), str(part.relative_to(tmp_path / "out"))
    whole = part.read_bytes()
    for length in reversed(range(len(whole))):
        os.truncate(part, length)
        with pytest.raises(EnvironmentFault, match=r"MX-E009 .*part-00001.parquet"):
            output.read_part(name)
    part.write_bytes(whole)
    assert output.read_part(name).num_rows == 2


def test_when_the_torn_part_is_removed_the_next_run_scores_its_specimens_again(
    scored: Scored, tmp_path: Path
) -> None:
    scored()
    before = rows(tmp_path / "out")
    part = sorted(tmp_path.glob("out/calls/*/*.parquet"))[1]
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(EnvironmentFault, match="MX-E009"):
        read_calls(tmp_path / "out")
    part.unlink()
    assert scored().planned["specimens"] == 2
    assert rows(tmp_path / "out").equals(before)


class Emptying(Silent):
    """Takes the files out of the archive once the first are scored, and keeps them."""

    def __init__(self, archive: Path, kept: Path) -> None:
        self._archive, self._kept = archive, kept

    def show(self, tally: Tally) -> None:
        if tally.calls and not self._kept.exists():
            self._archive.rename(self._kept)
            self._archive.mkdir()


def test_an_archive_that_is_emptied_meanwhile_stops_the_run_and_puts_nothing_in_quarantine(
    scored: Scored, small_archive: Path, tmp_path: Path
) -> None:
    archive, kept = tmp_path / "archive", tmp_path / "kept"
    archive.mkdir()
    for file in small_archive.iterdir():
        (archive / file.name).write_bytes(file.read_bytes())
    with pytest.raises(EnvironmentFault, match=r"MX-E002 .* the folder is empty now"):
        scored(archive, display=Emptying(archive, kept))
    assert read_quarantine(tmp_path / "out").num_rows == 0
    archive.rmdir()
    kept.rename(archive)
    scored(archive)
    assert sorted(rows(tmp_path / "out")["specimen_id"].to_pylist()) == ["0", "1", "2", "3", "4"]
