"""How many workers a machine makes, and what happens when its GPU cannot be used."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mxbatch.engine import machine
from mxbatch.engine.errors import EnvironmentFault, UsageError
from mxbatch.engine.machine import Crew, choose_crew, count_gpus, over_budget, proven


def test_without_a_gpu_there_is_a_single_threaded_worker_per_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "count_gpus", lambda: 0)
    monkeypatch.setattr(machine, "memory_bytes", lambda: 64_000_000_000)
    crew = choose_crew(cpus=6)
    assert crew.devices == ("cpu",) * 6
    assert (crew.model_threads, crew.decode_threads) == (1, 0)


def test_memory_bounds_the_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "count_gpus", lambda: 0)
    monkeypatch.setattr(machine, "memory_bytes", lambda: 3_100_000_000)
    assert len(choose_crew(cpus=64).devices) == 2
    assert len(choose_crew(cpus=64, worker_bytes=700_000_000).devices) == 4
    assert len(choose_crew(cpus=64, worker_bytes=9_000_000_000).devices) == 1


def test_workers_that_take_more_than_planned_are_spoken_of_on_a_cpu_alone() -> None:
    crew = Crew(devices=("cpu",), batch=1, model_threads=1, decode_threads=1)
    assert over_budget(crew, 1_500_000_000, 1_500_000_000) is None
    says = "a worker has taken 1.6 GB, 1.5 were planned for: --worker-memory 1.6 starts no more than fit"
    assert over_budget(crew, 1_500_000_001, 1_500_000_000) == says
    assert over_budget(replace(crew, devices=("cuda:0",)), 9_000_000_000, 1_500_000_000) is None


def test_gpus_get_a_worker_each_and_share_the_cores_for_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "count_gpus", lambda: 2)
    crew = choose_crew(cpus=16)
    assert crew.devices == ("cuda:0", "cuda:1")
    assert crew.decode_threads == 8
    assert choose_crew("cpu", cpus=16).devices[0] == "cpu"


def test_cuda_without_a_gpu_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert count_gpus() == 0
    with pytest.raises(UsageError, match="no NVIDIA GPU"):
        choose_crew("cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use the GPU of this machine")
def test_a_gpu_that_torch_cannot_use_is_announced_and_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "count_gpus", lambda: 1)
    notes: list[str] = []
    assert set(proven(choose_crew(), "auto", notes.append).devices) == {"cpu"}
    assert proven(choose_crew(), "auto", notes.append, worker_bytes=10**15).devices == ("cpu",)
    assert notes[0].startswith("torch cannot use the GPU (")
    with pytest.raises(EnvironmentFault, match="MX-E006"):
        proven(choose_crew("cuda"), "cuda", notes.append)
