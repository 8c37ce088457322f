"""Once per run: what the GPU decodes is measured, told, recorded, and then no longer a matter of choice."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import corpus
import pyarrow as pa
import pytest
from echo import TINY, echo_bundle

from mxbatch.engine.archive.index import INDEX_SCHEMA
from mxbatch.engine.decode.contract import InputContract
from mxbatch.engine.errors import EnvironmentFault, UsageError
from mxbatch.engine.ledger import RunRecord
from mxbatch.engine.machine import Crew
from mxbatch.engine.offload import nvimagecodec, settle
from mxbatch.engine.offload.apart import try_apart
from mxbatch.engine.offload.settle import (
    FEWEST,
    SAMPLE,
    DecodeWish,
    require_gpu_decode,
    sample,
    settle_offload,
)
from mxbatch.engine.offload.trial import OTHER, Order, Tried
from mxbatch.engine.plan import Plan, make_plan
from mxbatch.engine.settings import Settings

TRIED = {
    "jpeg": Tried(count=90, host_per_s=100.0, engine="hardware", gpu_per_s=300.0),
    "jpeg 2000": Tried(count=2, host_per_s=20.0),
    OTHER: Tried(count=4, host_per_s=50.0),
}


def plan_of(radiographs: int) -> Plan:
    rows = [
        {"centre": "BCM", "procedure": "IMPC_XRY_001", "date_of_experiment": "", "size": 10, "mtime_ns": 5}
        | {"specimen_id": f"{n:06}", "view": "dv", "path": f"{n:06}.jpg"}
        | ({"code": "MX-A102", "reason": "no"} if n % 7 == 3 else {})
        for n in range(radiographs)
    ]
    return make_plan(pa.Table.from_pylist(rows, schema=INDEX_SCHEMA), model_id="m")


PLAN = plan_of(FEWEST)


class Case:
    """A machine with one GPU and nvImageCodec, and a trial that answers at once."""

    def __init__(self, tried: Mapping[str, Tried] = TRIED) -> None:
        self.tried, self.notes = tried, list[str]()
        self.orders: list[Order] = []

    def trial(self, order: Order, note: Any) -> Mapping[str, Tried]:
        self.orders.append(order)
        return self.tried

    def settle(self, record: RunRecord, decode: str = "auto", **more: Any) -> Any:
        self.notes.clear()
        crew = Crew(devices=("cuda:0",), batch=128, model_threads=1, decode_threads=16)
        wish = DecodeWish(Settings(decode=decode), Path("/archive"), PLAN, echo_bundle(), crew)
        settle_offload(replace(wish, **more), record, self.notes.append, self.trial)
        return record.decode


@pytest.fixture
def case(monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setattr(settle, "hindrance", lambda device: "no GPU: buy one" if device == "cpu" else None)
    return Case()


def record(**more: Any) -> RunRecord:
    return RunRecord(run_id="00001-now", archive="/archive", model_id="m", learned_from="nothing", **more)


def test_what_was_measured_divides_the_work_and_is_recorded_with_its_rates(case: Case) -> None:
    found = case.settle(record())
    assert found == {"jpeg": {"share": 0.9, "engine": "hardware", "gpu_per_s": 300.0, "host_per_s": 100.0}}
    assert case.notes == ["the GPU decodes 90% of jpeg (measured 300/s against 100/s on the host)"]
    (order,) = case.orders
    assert (order.device, order.threads, order.root) == ("cuda:0", 16, Path("/archive"))


def test_a_run_that_goes_on_does_so_as_it_began_and_measures_nothing(case: Case) -> None:
    begun = record()
    first = case.settle(begun)
    case.tried = {"jpeg": replace(TRIED["jpeg"], gpu_per_s=1.0)}
    begun.resumed = 1
    for decode in ("auto", "gpu"):
        assert case.settle(begun, decode) == first
    assert len(case.orders) == 1
    assert case.notes == []


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"decode": "cpu"}, "as was asked for"),
        ({"crew": Crew(devices=("cpu",), batch=1, model_threads=1, decode_threads=1)}, "no GPU: buy one"),
    ],
)
def test_where_it_cannot_or_shall_not_it_is_announced(case: Case, how: dict[str, Any], why: str) -> None:
    begun = record(decode={"jpeg": {"share": 0.5}}, resumed=1)
    assert case.settle(begun, **how) == {}
    assert case.notes[0].startswith(
        f"the run began with radiographs decoded on the GPU, and goes on without ({why})"
    )


def test_a_run_of_an_earlier_version_stays_with_the_host(case: Case) -> None:
    assert case.settle(record(resumed=1)) == {}
    assert case.settle(record(resumed=1, decode={})) == {}
    assert case.orders == []


def test_asked_for_by_name_the_gpu_takes_all_that_it_can(case: Case) -> None:
    assert case.settle(record(), "gpu")["jpeg"]["share"] == 1.0
    case.tried = {OTHER: TRIED[OTHER]}
    with pytest.raises(EnvironmentFault, match="no kind of radiograph in this run"):
        case.settle(record(), "gpu")


def test_auto_tries_nothing_for_a_small_run_and_says_why_it_stays_on_the_host(case: Case) -> None:
    assert case.settle(record(), plan=plan_of(FEWEST - 1)) == {}
    assert (case.orders, case.notes) == ([], [])
    assert case.settle(record(), model_per_s=1.0) == {}  # the model keeps the GPU busy
    assert case.notes == ["radiographs are decoded on the host: the GPU would not end sooner"]
    case.tried = {}
    assert case.settle(record()) == {}
    assert case.notes == ["radiographs are decoded on the host: nothing in this run is for the GPU"]


def test_a_busy_gpu_takes_less(case: Case) -> None:
    idle = case.settle(record())["jpeg"]["share"]
    assert 0 < case.settle(record(), model_per_s=FEWEST / 5.0)["jpeg"]["share"] < idle


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"elsewhere": True}, "no GPU to try it on"),
        (
            {"bundle": echo_bundle(replace(TINY, input=InputContract(size=32, upright=True)))},
            "wants the animal turned",
        ),
    ],
)
def test_what_stands_in_the_way_is_an_error_only_where_the_gpu_was_named(
    case: Case, more: dict[str, Any], why: str
) -> None:
    assert case.settle(record(), **more) == {}
    assert case.orders == []
    with pytest.raises(EnvironmentFault, match=f"MX-M007 .*{why}"):
        case.settle(record(), "gpu", **more)


def test_the_sample_comes_from_all_over_the_plan_and_from_what_the_index_took() -> None:
    found = sample(PLAN, SAMPLE)
    assert len(found) == len(set(found)) == SAMPLE
    assert all(int(path[:6]) % 7 != 3 for path in found)
    assert int(found[-1][:6]) > 0.9 * FEWEST
    assert len(sample(plan_of(5), SAMPLE)) == 4


def test_a_wrong_word_is_answered_with_the_right_ones() -> None:
    with pytest.raises(UsageError, match="decode must be auto, cpu, gpu, got 'hardware'"):
        Settings(decode="hardware")


def test_without_a_gpu_asking_for_one_is_refused_before_anything_begins() -> None:
    require_gpu_decode(Settings(decode="auto"), "cpu")
    with pytest.raises(EnvironmentFault, match="MX-M007 nvImageCodec decodes on NVIDIA's GPUs"):
        require_gpu_decode(Settings(decode="gpu"), "cpu")


@pytest.mark.parametrize(
    ("versions", "why"),
    [
        ({}, "nvImageCodec is not installed: pip install 'mxbatch\\[nvimgcodec\\]'"),
        ({"nvidia-nvimgcodec-cu13": "0.8.0.22"}, "nvImageCodec 0.8.0.22 is too old: pip install --upgrade"),
        ({"nvidia-nvimgcodec-cu12": "0.9.0.20"}, None),
    ],
)
def test_the_hindrance_is_told_with_the_command_that_removes_it(
    versions: dict[str, str], why: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvimagecodec, "_version", versions.get)
    found = nvimagecodec.hindrance("cuda:1")
    assert found is None if why is None else re.match(why, found or "")


@pytest.fixture
def order(tmp_path: Path) -> Order:
    for n in range(4):
        (tmp_path / f"{n}.jpg").write_bytes(corpus.jpeg(200 + n, 150))
    return Order(
        root=tmp_path,
        paths=tuple(f"{n}.jpg" for n in range(4)),
        contract=InputContract(size=32),
        limits=Settings().limits,
        device="cuda:0",
        threads=1,
    )


@pytest.mark.skipif(nvimagecodec.hindrance("cuda:0") is None, reason="nvImageCodec is installed")
def test_a_trial_without_the_library_is_told_and_leaves_all_to_the_host(order: Order) -> None:
    """The real process."""
    notes: list[str] = []
    found = try_apart(order, notes.append)
    assert (found["jpeg"].count, found["jpeg"].engine) == (4, "")
    assert found["jpeg"].host_per_s > 0
    assert [note.partition(" cannot")[0] for note in notes] == [
        "nvImageCodec's engine 'hardware'",
        "nvImageCodec's engine 'cuda'",
    ]


def test_a_trial_that_dies_is_told(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    notes: list[str] = []
    assert try_apart(order, notes.append) == {}
    assert notes == ["the trial of decoding on the GPU died (exit status 1)"]
