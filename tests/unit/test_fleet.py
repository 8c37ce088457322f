"""Which workers a run gets, decided before anything is written."""

from __future__ import annotations

import socket
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from mxbatch.engine.dispatch import fleet
from mxbatch.engine.dispatch.fleet import LocalFleet, open_fleet, untried
from mxbatch.engine.dispatch.ray_fleet import Room, lets_strangers_in, room_for
from mxbatch.engine.dispatch.sent_bundle import pack, unpack
from mxbatch.engine.errors import EnvironmentFault, UsageError
from mxbatch.engine.machine import WORKER_BYTES
from mxbatch.engine.runtime.prepare import Wish
from mxbatch.engine.settings import Settings

GB = 1e9
GPU_NODE = {"CPU": 32.0, "GPU": 4.0, "memory": 200 * GB}
CPU_NODE = {"CPU": 16.0, "memory": 12 * GB}


def test_a_gpu_worker_takes_a_gpu_and_its_share_of_the_cores() -> None:
    room = room_for(Settings(ray="local"), [GPU_NODE, CPU_NODE])
    assert (room.cpus, room.gpus) == (8, 1.0)
    assert [room.on(node) for node in (GPU_NODE, CPU_NODE)] == [4, 0]


@pytest.mark.parametrize(("share", "fit"), [(0.5, 8), (0.25, 16), (0.3, 12), (2.0, 2)])
def test_fractions_of_gpus_never_reach_over_two(share: float, fit: int) -> None:
    room = room_for(Settings(ray="local", gpus_per_worker=share), [GPU_NODE])
    assert room.on({**GPU_NODE, "CPU": 999.0}) == fit


def test_a_cpu_worker_takes_a_core_and_the_memory_that_it_needs() -> None:
    room = room_for(Settings(ray="local", device="cpu"), [GPU_NODE, CPU_NODE])
    assert room == Room(cpus=1, gpus=0, memory_bytes=WORKER_BYTES)
    assert [room.on(node) for node in (GPU_NODE, CPU_NODE, {})] == [32, 8, 0]
    assert room_for(Settings(ray="local", worker_memory=4.0), [CPU_NODE]).memory_bytes == 4_000_000_000
    assert room_for(Settings(ray="local", cpus_per_worker=4), [CPU_NODE]).on(CPU_NODE) == 4


@pytest.mark.parametrize("settings", [{"device": "cuda"}, {"gpus_per_worker": 0.5}])
def test_gpus_that_no_machine_has_are_a_mistake(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="MX-U001"):
        room_for(Settings(ray="local", **settings), [CPU_NODE])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"cpus_per_worker": 2}, "cpus_per_worker is for Ray"),
        ({"gpus_per_worker": 0.5}, "gpus_per_worker is for Ray"),
        ({"allow_insecure_ray": True}, "allow_insecure_ray is for Ray"),
        ({"ray": "local", "gpus_per_worker": -1.0}, "a share of one GPU or a whole number"),
        ({"ray": "local", "gpus_per_worker": 1.5}, "a share of one GPU or a whole number"),
        ({"worker_memory": 0.0}, "worker_memory must be some GB"),
        ({"worker_memory": float("nan")}, "worker_memory must be some GB"),
        ({"patience": 0.0}, "are seconds"),
        ({"grace": -1.0}, "are seconds"),
        ({"patience": float("nan")}, "are seconds"),
    ],
)
def test_options_that_would_do_nothing_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Settings(**settings)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine without GPUs, without ray, and without a cluster."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(fleet, "count_gpus", lambda: 0)
    monkeypatch.setattr(fleet, "find_spec", lambda name: None)
    return monkeypatch


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_without_the_option_there_are_worker_processes_and_nothing_is_said(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("RAY_ADDRESS", "head:6379")
    notes: list[str] = []
    with open_fleet(Settings(device="cpu", workers=3), notes.append) as found:
        assert isinstance(found, LocalFleet)
        assert found.crew.devices == ("cpu",) * 3
    assert notes == []


def test_auto_says_what_it_takes_and_why(bare: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    asked = Settings(ray="auto", device="auto")
    assert fleet._ray_wanted(asked, notes.append) is None
    bare.setattr(fleet, "count_gpus", lambda: 2)
    assert fleet._ray_wanted(asked, notes.append) is None
    bare.setattr(fleet, "find_spec", lambda name: ModuleSpec(name, None))
    assert fleet._ray_wanted(asked, notes.append) == "local"
    bare.setenv("RAY_ADDRESS", "head:6379")
    assert fleet._ray_wanted(asked, notes.append) == "head:6379"
    assert notes == [
        "no RAY_ADDRESS and at most one GPU: scoring with worker processes",
        "several GPUs, but ray is not installed: scoring with worker processes",
        "RAY_ADDRESS is set: scoring on the Ray cluster at head:6379",
    ]


@pytest.mark.parametrize("where", ["local", "head:6379"])
def test_a_missing_ray_is_one_line_with_the_command_that_brings_it(
    bare: pytest.MonkeyPatch, where: str
) -> None:
    with (
        pytest.raises(EnvironmentFault, match=r"MX-E014 ray is not installed. Pip install 'mxbatch\[ray\]'"),
        open_fleet(Settings(ray=where), lambda text: None),
    ):
        pass


def test_a_cluster_that_is_not_there_is_one_line_and_soon(unused_port: int) -> None:
    with pytest.raises(EnvironmentFault, match=f"MX-E014 127.0.0.1:{unused_port}: nobody listens there"):
        lets_strangers_in(f"127.0.0.1:{unused_port}")


def test_where_nothing_can_be_tried_it_is_plain_torch_or_what_was_named() -> None:
    notes: list[str] = []
    wish = Wish(runtime="auto", precision=None, device="cuda:0", batch=128, radiographs=9, workers=4)
    prepared = untried(wish, notes.append)
    assert (prepared.name, prepared.batch, prepared.device) == ("eager-float32", 128, "cuda")
    assert len(notes) == 1
    named = Wish(runtime="tensorrt", precision="float16", device="cuda:0", batch=0, radiographs=9, workers=4)
    assert untried(named, notes.append).name == "tensorrt-float16"
    assert len(notes) == 1


def test_a_bundle_that_was_sent_is_unpacked_once_whole_and_by_its_checksums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for name, content in {"bundle.toml": b"a", "weights.safetensors": b"b", "SHA256SUMS": b"c"}.items():
        (bundle / name).write_bytes(content)
    first, second = unpack(pack(bundle)), unpack(pack(bundle))
    assert first == second
    assert pack(first) == pack(bundle)
    (bundle / "SHA256SUMS").write_bytes(b"d")
    assert unpack(pack(bundle)) != first
    assert not list((tmp_path / "cache" / "mxbatch" / "bundles").glob(".*"))
