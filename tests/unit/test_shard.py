"""The hot path with a scorer that only echoes: what is opened when, and what the order of work is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corpus import jpeg
from echo import TAXONOMY, EchoScorer, echo_engine
from numpy.typing import NDArray

from mxbatch.engine.archive.open import open_archive
from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.plan import Shard, make_plan
from mxbatch.engine.shard import Watch, score_shard


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    for n in range(6):
        (tmp_path / f"{n}.jpg").write_bytes(jpeg(60 + n, 90))
    return tmp_path


@pytest.fixture
def shard(archive: Path) -> Shard:
    return make_plan(open_archive(archive, default_view="dv").index, model_id="m").shard(0)


def test_with_care_nothing_is_open_while_the_model_works(archive: Path, shard: Shard) -> None:
    """Else a model that dies would put the radiograph that was read last in quarantine."""
    said: list[str] = []

    class Spy(EchoScorer):
        def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            said.append("encode")
            return super().encode(images)

    with ThreadPoolExecutor(1) as pool:
        score_shard(
            shard, echo_engine(archive, pool, scorer=Spy(TAXONOMY, batch=4)), Watch(opening=said.append)
        )
    loads = [step for n in range(6) for step in (f"{n}.jpg", "")]
    assert said == [*loads[:8], "encode", *loads[8:], "encode"]


def test_care_changes_no_number(archive: Path, shard: Shard) -> None:
    with ThreadPoolExecutor(2) as pool:
        engine = echo_engine(archive, pool)
        plain = score_shard(shard, engine).calls.drop_columns(["scored_at"])
        careful = score_shard(shard, engine, Watch(opening=lambda path: None)).calls
    assert careful.drop_columns(["scored_at"]).equals(plain)


def test_who_decodes_changes_no_number(archive: Path, shard: Shard) -> None:
    (archive / "2.jpg").write_bytes(b"")
    with ThreadPoolExecutor(2) as pool:
        engine = echo_engine(archive, pool)
        by_threads = score_shard(shard, engine)
        by_itself = score_shard(shard, replace(engine, decoders=0))
    assert by_itself.calls.drop_columns(["scored_at"]).equals(by_threads.calls.drop_columns(["scored_at"]))
    assert by_itself.quarantine.num_rows == 1
    assert by_itself.quarantine["code"].equals(by_threads.quarantine["code"])


@pytest.mark.parametrize("decoders", [0, 2])
def test_progress_counts_every_radiograph_once(archive: Path, shard: Shard, decoders: int) -> None:
    counted: list[int] = []
    with ThreadPoolExecutor(2) as pool:
        engine = replace(echo_engine(archive, pool), decoders=decoders)
        score_shard(shard, engine, Watch(progress=counted.append))
    assert sum(counted) == 6


@pytest.mark.parametrize("decoders", [0, 2])
def test_a_poisoned_path_is_never_opened(archive: Path, shard: Shard, decoders: int) -> None:
    with ThreadPoolExecutor(2) as pool:
        engine = replace(echo_engine(archive, pool), decoders=decoders)
        part = score_shard(shard, engine, Watch(poisoned=frozenset({"3.jpg"})))
    assert part.quarantine["path"].to_pylist() == ["3.jpg"]
    assert part.quarantine["checksum"].to_pylist() == [None]
    assert part.calls.num_rows == 5


def test_an_archive_that_is_gone_is_no_quarantine_but_a_fault(archive: Path, shard: Shard) -> None:
    for path in archive.iterdir():
        path.unlink()
    with ThreadPoolExecutor(2) as pool, pytest.raises(EnvironmentFault, match="MX-E002"):
        score_shard(shard, echo_engine(archive, pool))
