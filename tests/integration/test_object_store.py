"""An output in an object store is the one in a folder: the same rows, the same commands, the same mistakes."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conftest import Run
from s3_server import Server

import mxbatch as front_door
from mxbatch.engine.archive.index import KEY
from mxbatch.engine.bundle import Bundle
from mxbatch.engine.drawing import draw_radiograph
from mxbatch.engine.file_formats import FILE_FORMATS
from mxbatch.engine.ledger import Output
from mxbatch.engine.score import score

SETTINGS: dict[str, Any] = {"shard_radiographs": 2, "device": "cpu", "runtime": "eager"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five mice in one view, and a file that is none."""
    root = tmp_path_factory.mktemp("archive")
    for mouse in range(5):
        drawn = draw_radiograph("dv", seed=mouse, height=60, width=50)
        (root / f"{mouse}.png").write_bytes(FILE_FORMATS["png"](drawn))
    (root / "5.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return root


def rows(table: pa.Table) -> pa.Table:
    """Without what no two runs share, in the order of the specimens."""
    unlike = [name for name in ("run_id", "scored_at", "seen_at") if name in table.column_names]
    return table.drop_columns(unlike).sort_by([(name, "ascending") for name in KEY]).combine_chunks()


@pytest.fixture(scope="module")
def folder(archive: Path, small_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("folder") / "out"
    score(archive, out, model=small_bundle.path, workers=1, **SETTINGS)
    return out


@pytest.fixture(scope="module")
def address(archive: Path, small_bundle: Bundle, s3: Server) -> str:
    """What two worker processes wrote."""
    address = s3.address("centre/nightly")
    summary = score(archive, address, model=small_bundle.path, workers=2, **SETTINGS)
    assert (summary.exit_code, summary.out) == (1, "s3://results/centre/nightly")
    return address


def test_two_processes_put_the_rows_that_one_writes_into_a_folder(address: str, folder: Path) -> None:
    assert rows(front_door.read_calls(address)).equals(rows(front_door.read_calls(folder)))
    assert rows(front_door.read_quarantine(address)).equals(rows(front_door.read_quarantine(folder)))


def test_the_objects_are_named_as_the_files_are_and_no_claim_is_left(address: str, folder: Path) -> None:
    [run], store = Output(address).runs(), Output(address).store
    [like] = Output(folder).runs()
    for name in ("calls/run={}", "quarantine/run={}", "runs/{}"):
        assert sorted(store.names(name.format(run.run_id))) == sorted(
            Output(folder).store.names(name.format(like.run_id))
        )
    assert store.exists("report.html")
    assert store.names("runs/.lock") == []


def test_nothing_private_is_in_any_object(s3: Server, address: str) -> None:
    output = Output(address)
    [run] = output.runs()
    names = [f"runs/{run.run_id}/run.json", f"runs/{run.run_id}/plan.parquet", "report.html"]
    names += [output.calls_part(run.run_id, number) for number in output.committed(run.run_id)]
    for name in names:
        content = output.store.open(name).read()
        assert not [word for word in s3.private() if word.encode() in content], name


def test_the_commands_read_it(mxbatch: Run, address: str, tmp_path: Path) -> None:
    [state] = json.loads(mxbatch("status", address, "--json").stdout)
    assert (state["state"], state["counts"]["calls"], state["shards_committed"]) == ("finished", 5, 3)
    assert "finished" in mxbatch("status", address).stdout
    [refused] = json.loads(mxbatch("quarantine", address, "--json").stdout)
    assert (refused["path"], refused["code"]) == ("5.png", "MX-D201")
    assert mxbatch("report", address).stdout == "s3://results/centre/nightly/report.html\n"
    nodes = front_door.read_calls(address).column_names
    bands = {name.removeprefix("p_"): [0.0, 0.0] for name in nodes if name.startswith("p_")}
    (tmp_path / "bands.toml").write_text("\n".join(f"{node} = {band}" for node, band in bands.items()))
    done = mxbatch("recall", address, "--to", "again.parquet", "--thresholds", "bands.toml", "--json")
    assert json.loads(done.stdout)["specimens"] == 5, done.stderr
    elsewhere = mxbatch("recall", address, "--to", "s3://results/again.parquet", "--thresholds", "bands.toml")
    assert (elsewhere.returncode, elsewhere.stderr[:16]) == (2, "mxbatch: MX-U001")


def test_what_is_scored_is_left_alone(
    mxbatch: Run, s3: Server, address: str, archive: Path, small_bundle: Bundle
) -> None:
    s3.asked.clear()
    done = mxbatch("score", archive, "--out", address, "--model", small_bundle.path)
    assert (done.returncode, done.stdout[:11]) == (0, "nothing new"), done.stderr
    assert all("/runs/.lock/" in request for request in s3.wrote())


def test_a_dry_run_puts_nothing(mxbatch: Run, s3: Server, archive: Path, small_bundle: Bundle) -> None:
    s3.asked.clear()
    done = mxbatch("score", archive, "--out", s3.address("dry"), "--model", small_bundle.path, "--dry-run")
    assert done.stdout.startswith("would score 6 specimens"), done.stderr
    assert s3.asked
    assert not s3.wrote()


def test_the_endpoint_may_be_in_the_environment(
    s3: Server, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{s3.endpoint}")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert front_door.read_calls("s3://results/centre/nightly?region=us-east-1").num_rows == 5


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: pip install 'mxbatch[ray]'")
def test_ray_actors_put_the_same_rows(s3: Server, archive: Path, folder: Path, small_bundle: Bundle) -> None:
    out = s3.address("by-ray")
    score(archive, out, model=small_bundle.path, ray="local", workers=2, **SETTINGS)
    assert rows(front_door.read_calls(out)).equals(rows(front_door.read_calls(folder)))


MISTAKES = {
    "credentials in it": ("s3://AKIAKEY:hidden@bucket/x", 2, "AWS_ACCESS_KEY_ID"),
    "an option that pyarrow does not know": ("s3://bucket/x?acl=hidden", 2, "no usable address"),
    "no bucket": ("s3:///x", 2, "no usable address"),
    "a path that climbs": ("s3://bucket/../x", 2, "no usable address"),
    "another kind of store": ("gs://bucket/x", 2, "gs: cannot be used here"),
}


@pytest.mark.parametrize(("given", "code", "says"), MISTAKES.values(), ids=MISTAKES)
def test_an_address_that_cannot_be_is_one_line_that_gives_nothing_away(
    mxbatch: Run, archive: Path, small_bundle: Bundle, tmp_path: Path, given: str, code: int, says: str
) -> None:
    for command in (("score", archive, "--model", small_bundle.path, "--out", given), ("status", given)):
        done = mxbatch(*command)
        [line] = done.stderr.splitlines()
        assert (done.returncode, line[:16]) == (code, "mxbatch: MX-U001")
        assert says in line
        assert "hidden" not in line
    assert list(tmp_path.iterdir()) == []


def test_an_address_is_text_and_an_archive_a_folder(archive: Path, small_bundle: Bundle) -> None:
    with pytest.raises(front_door.UsageError, match="as text, not as a Path"):
        front_door.read_calls(Path("s3://bucket/x"))
    with pytest.raises(front_door.UsageError, match="s3: cannot be used here"):
        front_door.score("s3://bucket/archive", "out", model=small_bundle.path)
