"""Whether NVIDIA's libraries are of use on a machine, and how their engines run: over a fake of their interface."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fake_tensorrt import BATCH, SIDE, D, FakeRuntime, FakeTensorRT, Severity
from torch import Tensor

from mxbatch.engine.bundle import Bundle
from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.runtime import tensorrt, tensorrt_library
from mxbatch.engine.runtime.encoder import EngineSpec
from mxbatch.engine.runtime.tensorrt_library import TENSORRT, TENSORRT_RTX, Library, log_of
from mxbatch.engine.runtime.tensorrt_run import PlanEncoder

SPEC = EngineSpec(device="cpu", precision="bfloat16", batch=BATCH)


# --- whether they are of use here ----------------------------------------------------------------------------------


def test_both_are_entries_of_the_table() -> None:
    assert [runtime.name for runtime in tensorrt.RUNTIMES] == ["tensorrt", "tensorrt-rtx"]
    for runtime in tensorrt.RUNTIMES:
        assert runtime.precisions("cuda:0")[0] == "bfloat16"
        assert "--device cuda" in str(runtime.usable("cpu"))


@pytest.mark.parametrize(
    ("found", "answer"),
    [
        (None, "tensorrt is not installed: pip install 'mxbatch[tensorrt]'"),
        (
            "10.14.1.48",
            "tensorrt 10.14.1.48 is installed, at least 10.15 and below 12.0 is needed: pip install",
        ),
        ("10.15.1.29", None),
        ("11.4.0.106", None),
        ("12.0.0.1", "tensorrt 12.0.0.1 is installed, at least 10.15 and below 12.0 is needed: pip install"),
    ],
)
def test_a_runtime_says_which_version_it_needs(
    monkeypatch: pytest.MonkeyPatch, found: str | None, answer: str | None
) -> None:
    def version(_: str) -> str:
        if found is None:
            raise PackageNotFoundError
        return found

    monkeypatch.setattr(tensorrt_library, "version", version)
    monkeypatch.setattr(tensorrt_library, "find_spec", lambda _: "here")
    said = tensorrt.usable(TENSORRT, "cuda:0")
    assert said is None if answer is None else str(said).startswith(answer)


def test_a_library_that_cannot_be_imported_is_a_fault_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> ModuleType:
        raise OSError("libnvinfer.so.11:\n cannot open shared object file")

    monkeypatch.setattr(tensorrt_library, "import_module", broken)
    with pytest.raises(EnvironmentFault, match=r"libnvinfer.so.11: cannot open") as raised:
        TENSORRT.load()
    assert raised.value.code == "MX-M006"


# --- run, over a fake of the interface -----------------------------------------------------------------------------


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorRT]:
    """A fake library in the place of both, and torch's CUDA calls as if the CPU were a device of it."""
    trt = FakeTensorRT()
    monkeypatch.setattr(tensorrt_library, "import_module", lambda _: trt)
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: SimpleNamespace(cuda_stream=77))
    yield trt
    log_of.cache_clear()


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / tensorrt.PLAN
    path.write_bytes(b"plan")
    return path


def images(seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (BATCH, SIDE, SIDE), np.uint8))


def test_an_engine_computes_on_the_current_stream_from_tensor_to_tensor(
    fake: FakeTensorRT, plan: Path
) -> None:
    encoder = PlanEncoder(TENSORRT, plan, SPEC)
    first, second = encoder(images(0)), encoder(images(1))
    for features, given in ((first, images(0)), (second, images(1))):
        assert torch.equal(features, torch.stack([given.sum((1, 2)), given[:, 0, 0]], dim=1).float())
    assert encoder.feature_dim == D
    assert fake.streams == [77, 77]


@pytest.mark.parametrize(
    "wrong", [images()[:-1], images().float(), images().transpose(1, 2)], ids=["batch", "type", "order"]
)
def test_pictures_that_the_engine_would_misread_are_refused(
    fake: FakeTensorRT, plan: Path, wrong: Tensor
) -> None:
    with pytest.raises(ValueError, match=r"the engine takes uint8\[3, 5, 5\]"):
        PlanEncoder(TENSORRT, plan, SPEC)(wrong)


@pytest.mark.parametrize(
    ("library", "kernels", "cached"),
    [(TENSORRT, b"", []), (TENSORRT_RTX, b"", [None]), (TENSORRT_RTX, b"kernels", [b"kernels", None])],
)
def test_kernels_compiled_at_the_first_run_are_kept_where_a_library_compiles_them_there(
    fake: FakeTensorRT, plan: Path, library: Library, kernels: bytes, cached: list[bytes | None]
) -> None:
    encoder = PlanEncoder(library, plan, SPEC, kernels)
    assert [entry if isinstance(entry, bytes) else None for entry in fake.caches] == cached
    assert encoder.kernels() == (b"kernels" if library.compiles_at_load else b"")


def test_building_for_a_gpu_ends_with_a_run_whose_kernels_loading_finds(
    fake: FakeTensorRT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_bundle: Bundle
) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    monkeypatch.setattr(torch, "zeros", lambda *shape, dtype, device: images())
    monkeypatch.setattr("mxbatch.engine.runtime.onnx_graph.write_onnx", lambda *_: None)
    monkeypatch.setattr(
        "mxbatch.engine.runtime.tensorrt_build.build_plan", lambda *_, targets, **__: targets[0].encode()
    )
    tensorrt.build(
        TENSORRT_RTX, small_bundle, dataclasses.replace(SPEC, device="cuda:0"), tmp_path, lambda _: None
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        tensorrt.PLAN: b"CURRENT",
        tensorrt.KERNELS: b"kernels",
    }
    fake.caches.clear()
    tensorrt.load(TENSORRT_RTX, small_bundle, SPEC, tmp_path, 1)
    assert fake.caches[0] == b"kernels"


@pytest.mark.parametrize(
    ("bits", "code", "words"),
    [
        (1, "MX-M005", "version mismatch"),
        (2, "MX-M006", "unsupported cc"),
        (32, "MX-M005", "malformed engine"),
    ],
)
def test_what_a_new_build_would_mend_is_told_from_what_it_would_not(
    fake: FakeTensorRT, plan: Path, bits: int, code: str, words: str
) -> None:
    fake.validity = (FakeTensorRT.EngineValidity.INVALID, bits)
    with pytest.raises(EnvironmentFault, match=f"fake refuses the engine: {words}") as raised:
        PlanEncoder(TENSORRT, plan, SPEC)
    assert raised.value.code == code


def test_a_library_that_cannot_judge_an_engine_reads_it_at_once(
    fake: FakeTensorRT, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(FakeRuntime, "get_engine_validity")
    assert PlanEncoder(TENSORRT, plan, SPEC).feature_dim == D


@pytest.mark.parametrize(
    ("call", "code"), [("deserialize", "MX-M005"), ("context", "MX-M006"), ("execute", "MX-M006")]
)
def test_each_call_that_gives_nothing_ends_in_the_librarys_own_words(
    fake: FakeTensorRT, plan: Path, call: str, code: str
) -> None:
    fake.silent.add(call)
    with pytest.raises(EnvironmentFault, match="Error Code 1: odd") as raised:
        PlanEncoder(TENSORRT, plan, SPEC)(images())
    assert raised.value.code == code


@pytest.mark.parametrize("call", ["deserialize", "context", "execute"])
def test_a_lack_of_memory_is_torchs_lack_of_memory(fake: FakeTensorRT, plan: Path, call: str) -> None:
    fake.silent.add(call)
    fake.says = "Error Code 2: OutOfMemory (Requested size was 9999 bytes.)"
    with pytest.raises(torch.OutOfMemoryError, match="Requested size"):
        PlanEncoder(TENSORRT, plan, SPEC)(images())


def test_the_engine_of_another_batch_is_refused(fake: FakeTensorRT, plan: Path) -> None:
    fake.batch = BATCH + 1
    with pytest.raises(EnvironmentFault, match="no engine for 3 radiographs") as raised:
        PlanEncoder(TENSORRT, plan, SPEC)
    assert raised.value.code == "MX-M005"


def test_a_library_without_a_driver_is_unusable(fake: FakeTensorRT, plan: Path) -> None:
    def refuse(log: Any) -> None:
        log.log(Severity.ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    fake.Runtime = refuse
    with pytest.raises(EnvironmentFault, match="fake: no runtime: CUDA initialization failure") as raised:
        PlanEncoder(TENSORRT, plan, SPEC)
    assert raised.value.code == "MX-M006"
