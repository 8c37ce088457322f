"""Peers answer for every radiograph, with the bundle's own numbers; and what becomes of bad files is told."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from mxbatch.bench.data import FOLDER, lay_out, radiographs_in
from mxbatch.bench.naive import open_grey
from mxbatch.bench.peers.attempt import Attempt, attempt
from mxbatch.bench.peers.faults import GOOD, KILLER, build_killer, damage, fault_table, plant, verdict
from mxbatch.bench.peers.order import Order, load_model
from mxbatch.bench.peers.race import Contestant, Course, contestants, race
from mxbatch.bench.peers.table import PEERS
from mxbatch.bench.subject import Chosen
from mxbatch.engine.bundle import Bundle
from mxbatch.engine.drawing import draw_radiograph
from mxbatch.engine.file_formats import FILE_FORMATS

FILES = 12
LIMIT_S = 280
EXACT = ("loop", "dataloader", "onnx_threads")
"""Open files as the test does; the others have filters of their own."""
ABLE = [peer.name for peer in PEERS if not peer.why_not("cpu", ["jpeg"], "float32")]
SLOW = {"ray_data"}

each_peer = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in ABLE]
)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three small JPEGs that no filter makes alike: a picture, its negative, and its ghost."""
    home = tmp_path_factory.mktemp("given")
    drawn = draw_radiograph("dv", seed=0, height=96, width=96)
    for number, picture in enumerate((drawn, 4095 - drawn, drawn // 4)):
        (home / f"{number}.jpg").write_bytes(FILE_FORMATS["jpeg"](picture))
    return radiographs_in(home)


@pytest.fixture(scope="module")
def archive(sources: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_out(sources, tmp_path_factory.mktemp("laid") / "archive", FILES)


@pytest.fixture
def chosen(small_bundle: Bundle) -> Chosen:
    return Chosen(bundle=small_bundle, runtime="eager", precision="float32", device="cpu", batch=5, workers=1)


Runner = Callable[[str], Contestant]


@pytest.fixture
def runner(chosen: Chosen) -> Runner:
    def named(name: str) -> Contestant:
        found, not_run = contestants(chosen, Course(names=(name,)), ["jpeg"])
        assert not_run == {}
        return found[-1]

    return named


def answers(out: Path) -> dict[str, NDArray[np.float32]]:
    """File name -> its numbers, whoever wrote them."""
    rows: list[tuple[str, list[float]]] = []
    for path in out.rglob("*.parquet"):
        for row in pq.read_table(path).to_pylist():
            where, *numbers = row.values()
            rows.append((where, numbers[0] if isinstance(numbers[0], list) else numbers))
    for path in out.rglob("*.csv"):
        with path.open(newline="") as file:
            rows += [(where, [float(n) for n in numbers]) for where, *numbers in list(csv.reader(file))[1:]]
    assert len({where for where, _ in rows}) == len(rows)
    return {Path(where).name: np.array(numbers, np.float32) for where, numbers in rows}


def expected(bundle: Bundle, archive: Path) -> dict[str, NDArray[np.float32]]:
    import torch

    files = sorted((archive / FOLDER).iterdir())
    size = bundle.recipe.input.size
    order = Order(
        radiographs=str(archive / FOLDER),
        out="",
        bundle=str(bundle.path),
        size=size,
        device="cpu",
        precision="float32",
        batch=5,
        cores=1,
    )
    images = np.stack([open_grey(str(path), size) for path in files])
    with torch.inference_mode():
        found = load_model(order)(torch.from_numpy(images)[:, None]).numpy()
    return {path.name: row for path, row in zip(files, found, strict=True)}


@each_peer
def test_a_peer_answers_for_every_radiograph_with_the_bundles_own_numbers(
    name: str, archive: Path, small_bundle: Bundle, runner: Runner, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run = attempt(runner(name).command(archive, out), out, limit_s=LIMIT_S)
    assert run.finished, run.last_words
    assert run.rows == FILES
    found, wanted = answers(out), expected(small_bundle, archive)
    assert found.keys() == wanted.keys()
    contents = np.stack(list(wanted.values()))[:3]  # of three pictures, in turn
    apart = min(np.abs(contents[a] - contents[b]).max() for a, b in [(0, 1), (0, 2), (1, 2)])
    near = apart / 50 if name in EXACT else apart / 2
    for file, numbers in wanted.items():
        np.testing.assert_allclose(found[file], numbers, rtol=0, atol=near, err_msg=file)


def test_half_a_file_stops_a_loop_and_costs_it_what_came_after(
    sources: list[Path], runner: Runner, tmp_path: Path
) -> None:
    archive, out = damage(lay_out(sources, tmp_path / "archive", GOOD)), tmp_path / "out"
    run = attempt(runner("loop").command(archive, out), out, limit_s=LIMIT_S)
    assert verdict(run) == "stopped with exit status 1; 12 of 12 good ones scored"
    assert "truncated" in run.last_words


@pytest.mark.slow
def test_mxbatch_puts_both_bad_files_in_quarantine_and_scores_the_good_ones(
    sources: list[Path], runner: Runner, chosen: Chosen, tmp_path: Path
) -> None:
    ours = contestants(chosen, Course(names=("loop",)), ["jpeg"])[0][0]
    if build_killer(tmp_path) is None:
        pytest.skip("there is no C compiler here")
    said: list[str] = []
    table = fault_table(sources, [ours], tmp_path, LIMIT_S, said.append)
    good = "finished; 12 of 12 good ones scored"
    assert table.rows == (("mxbatch", good, good),), said


def test_the_killer_ends_who_opens_its_file_and_nobody_else(sources: list[Path], tmp_path: Path) -> None:
    library = build_killer(tmp_path)
    if library is None:
        pytest.skip("there is no C compiler here")
    deadly = plant(lay_out(sources, tmp_path / "archive", GOOD))
    [poison] = (deadly / FOLDER).glob(f"*{KILLER}*")

    def read(path: Path) -> Attempt:
        code = f"import os; os.listdir({str(path.parent)!r}); open({str(path)!r}, 'rb').read()"
        environment = {"LD_PRELOAD": str(library)}
        command = [sys.executable, "-c", code]
        return attempt(command, tmp_path / "out", limit_s=LIMIT_S, environment=environment)

    assert read(poison).code == -11
    assert read(deadly / "index.csv").code == 0


@pytest.mark.slow
def test_a_race_ranks_who_finished_and_lists_who_did_not_run_with_the_reason(
    sources: list[Path], chosen: Chosen
) -> None:
    course = Course(radiographs=FILES, rounds=1, names=("loop", "dali"), limit_s=LIMIT_S)
    result = race(sources, chosen, course)
    ran = {row[0] for row in result.tables["radiographs/s"].rows}
    assert ran | set(result.not_run) == {"mxbatch", "loop float32", "dali float32"}
    assert result.not_run["dali float32"] == "needs an NVIDIA GPU"
    for name in ran:  # on a busy machine a short and a long run may take equally long
        assert result.figures[name].median > 0
    late = {name: why for name, why in result.not_run.items() if name != "dali float32"}
    assert {name: why for name, why in late.items() if "too few" not in why} == {}
    assert "timm" in result.machine["versions"]
