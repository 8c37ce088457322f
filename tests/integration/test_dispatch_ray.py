"""One archive, one model, one table: whoever scores it, and whatever machines come and go meanwhile."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mxbatch.engine.archive.index import KEY
from mxbatch.engine.bundle import Bundle
from mxbatch.engine.dispatch import ray_fleet
from mxbatch.engine.dispatch.job import Tally
from mxbatch.engine.dispatch.ray_fleet import lets_strangers_in, read_environment_again
from mxbatch.engine.drawing import draw_radiograph
from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.file_formats import FILE_FORMATS
from mxbatch.engine.progress import Silent
from mxbatch.engine.results import read_calls, run_states
from mxbatch.engine.score import score

if find_spec("ray") is None:
    pytest.skip("ray is not installed: pip install 'mxbatch[ray]'", allow_module_level=True)

MICE, VIEWS = 12, ("dv", "lv")
HEAD = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 80_000_000}
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve mice in two views, formats mixed."""
    root = tmp_path_factory.mktemp("archive")
    rows = ["file,specimen,view,centre"]
    formats = list(FILE_FORMATS.values())
    drawn = {view: draw_radiograph(view, seed=n, height=120, width=100) for n, view in enumerate(VIEWS)}
    for mouse in range(MICE):
        for n, view in enumerate(VIEWS):
            name = f"{mouse:02d}-{view}"
            picture = np.roll(drawn[view], 7 * mouse, axis=0)
            (root / name).write_bytes(formats[(mouse + n) % len(formats)](picture))
            rows.append(f"{name},mouse-{mouse:02d},{view},BCM")
    (root / "index.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three machines, as far as Ray can tell, that ask for a token."""
    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED")
    before = {name: os.environ.get(name) for name in names}
    os.environ |= dict(zip(names, ("token", secrets.token_hex(32), "0"), strict=True))
    read_environment_again()
    from ray.cluster_utils import Cluster

    machines = Cluster(initialize_head=True, head_node_args=HEAD)
    try:
        for _ in range(2):
            machines.add_node(**NODE)
        yield machines
    finally:
        machines.shutdown()
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


class Notes(Silent):
    """Keeps what the run says; `then` is called once, when the first radiographs are through."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.said: list[str] = []
        self._then: Callable[[], None] | None = then

    def note(self, text: str) -> None:
        self.said.append(text)

    def show(self, tally: Tally) -> None:
        if tally.radiographs and self._then:
            then, self._then = self._then, None
            then()


Rows = Callable[..., pa.Table]


@pytest.fixture
def rows(archive: Path, small_bundle: Bundle, tmp_path: Path) -> Rows:
    """The table that one run writes, without what no two runs share."""

    def scored(*, display: Silent | None = None, **settings: Any) -> pa.Table:
        sizes = {"shard_radiographs": 4, "device": "cpu", **settings}
        summary = score(
            archive, tmp_path / "out", model=small_bundle.path, display=display or Notes(), **sizes
        )
        assert summary.exit_code == 0
        table = read_calls(tmp_path / "out", history=True).drop_columns(["run_id", "scored_at"])
        return table.sort_by([(name, "ascending") for name in KEY]).combine_chunks()

    return scored


@pytest.fixture(scope="module")
def one_process(archive: Path, small_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    make: Any = rows.__wrapped__  # the fixture's own function, for a longer life
    return make(archive, small_bundle, tmp_path_factory.mktemp("one"))(workers=1)


def test_two_processes_write_the_rows_of_one(rows: Rows, one_process: pa.Table) -> None:
    assert one_process.num_rows == MICE
    assert rows(workers=2).equals(one_process)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_ray_actors_on_three_machines_write_the_rows_of_one_process(
    cluster: Any, rows: Rows, one_process: pa.Table, workers: int, tmp_path: Path
) -> None:
    assert rows(ray=cluster.address, workers=workers).equals(one_process)
    [state] = run_states(tmp_path / "out")
    assert state["workers"] == workers


def test_a_machine_that_goes_away_takes_nothing_with_it(
    cluster: Any, rows: Rows, one_process: pa.Table, tmp_path: Path
) -> None:
    machine = cluster.add_node(**NODE)
    display = Notes(then=lambda: cluster.remove_node(machine, allow_graceful=False))
    assert rows(ray=cluster.address, shard_radiographs=2, display=display).equals(one_process)


def test_a_cluster_that_asks_for_a_token_lets_no_stranger_in(cluster: Any) -> None:
    assert not lets_strangers_in(cluster.address)


def test_a_cluster_that_asks_nobody_is_refused_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, rows: Rows, tmp_path: Path
) -> None:
    monkeypatch.setattr(ray_fleet, "lets_strangers_in", lambda address: True)
    with pytest.raises(EnvironmentFault, match="MX-E015 head:6379: it asks for no token"):
        rows(ray="head:6379")
    assert not (tmp_path / "out").exists()
