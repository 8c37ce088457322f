"""Two ways to an engine: both are built where both can be, the faster is kept, and what leads nowhere is announced."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from mxbatch.engine.bundle import Bundle
from mxbatch.engine.runtime import tensorrt, tensorrt_ways
from mxbatch.engine.runtime.encoder import EngineSpec
from mxbatch.engine.runtime.onnx_graph import INPUT, OUTPUT
from mxbatch.engine.runtime.tensorrt_library import TENSORRT, TENSORRT_RTX, Library
from mxbatch.engine.runtime.tensorrt_ways import Job, fastest_plan, through_torch

SPEC = EngineSpec(device="cuda:0", precision="bfloat16", batch=2)
BUILDING = "tensorrt builds an engine in bfloat16 for 2 radiographs at a time"


def job(bundle: Bundle, scratch: Path, spec: EngineSpec = SPEC, library: Library = TENSORRT) -> Job:
    return Job(
        library=library, bundle=bundle, spec=spec, sample=None, scratch=scratch, timings=scratch / "timings"
    )


@pytest.fixture
def torch_tensorrt(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A fake of the library: what it was asked for is in `asked`, what it gives or raises is `gives`."""
    fake = SimpleNamespace(asked=[], gives=b"torch")

    def convert(program: Any, **options: Any) -> bytes:
        fake.asked.append((program, options))
        if isinstance(fake.gives, Exception):
            raise fake.gives
        return fake.gives

    module = ModuleType("torch_tensorrt")
    module.__spec__ = SimpleNamespace()  # type: ignore[assignment]
    module.dynamo = SimpleNamespace(  # type: ignore[attr-defined]
        convert_exported_program_to_serialized_trt_engine=convert
    )
    monkeypatch.setitem(sys.modules, "torch_tensorrt", module)
    return fake


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Both ways end in a word; the seconds of each word's engine can be set."""
    seconds = {"torch": 0.003, "onnx": 0.004}

    def through(word: str) -> Callable[[Job], bytes]:
        return lambda _: word.encode()

    monkeypatch.setitem(tensorrt_ways.WAYS, "torch-tensorrt", through("torch"))
    monkeypatch.setitem(tensorrt_ways.WAYS, "ONNX", through("onnx"))
    monkeypatch.setattr(tensorrt_ways, "seconds_per_batch", lambda _, plan: seconds[plan.decode()])
    return seconds


@pytest.mark.parametrize(
    ("onnx_s", "kept", "said"),
    [
        (0.004, b"torch", "kept: the engine through torch-tensorrt, 3 ms a batch, ONNX 4"),
        (0.002, b"onnx", "kept: the engine through ONNX, 2 ms a batch, torch-tensorrt 3"),
    ],
)
def test_the_faster_is_kept(
    torch_tensorrt: SimpleNamespace,
    built: dict[str, float],
    small_bundle: Bundle,
    tmp_path: Path,
    onnx_s: float,
    kept: bytes,
    said: str,
) -> None:
    built["onnx"] = onnx_s
    notes: list[str] = []
    assert fastest_plan(job(small_bundle, tmp_path), notes.append) == kept
    assert notes == [f"{BUILDING} through torch-tensorrt", f"{BUILDING} through ONNX", said]


@pytest.mark.parametrize(
    ("failing", "kept"), [("torch-tensorrt", b"onnx"), ("ONNX", b"torch")], ids=["torch", "onnx"]
)
def test_a_way_that_leads_nowhere_is_announced(
    torch_tensorrt: SimpleNamespace,
    built: dict[str, float],
    small_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
    kept: bytes,
) -> None:
    def nowhere(_: Job) -> bytes:
        raise RuntimeError("no converter for aten.odd\nand much more")

    monkeypatch.setitem(tensorrt_ways.WAYS, failing, nowhere)
    notes: list[str] = []
    assert fastest_plan(job(small_bundle, tmp_path), notes.append) == kept
    assert f"there is no way through {failing}: no converter for aten.odd" in notes


def test_where_no_way_leads_anywhere_the_last_says_why(
    torch_tensorrt: SimpleNamespace, built: dict[str, float], small_bundle: Bundle, tmp_path: Path
) -> None:
    def nowhere(word: str) -> Callable[[Job], bytes]:
        def way(_: Job) -> bytes:
            raise RuntimeError(word)

        return way

    for name in tensorrt_ways.WAYS:
        tensorrt_ways.WAYS[name] = nowhere(name)  # `built` puts them back
    with pytest.raises(RuntimeError, match=r"^ONNX$"):
        fastest_plan(job(small_bundle, tmp_path), lambda _: None)


def test_too_little_memory_is_not_a_reason_for_the_other_way(
    torch_tensorrt: SimpleNamespace,
    built: dict[str, float],
    small_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def short(_: Job) -> bytes:
        raise torch.OutOfMemoryError("short")

    monkeypatch.setitem(tensorrt_ways.WAYS, "torch-tensorrt", short)
    with pytest.raises(torch.OutOfMemoryError):
        fastest_plan(job(small_bundle, tmp_path), lambda _: None)


def test_without_torch_tensorrt_nothing_is_timed_and_nothing_said(
    built: dict[str, float], small_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_ways, "find_spec", lambda _: None)
    notes: list[str] = []
    assert fastest_plan(job(small_bundle, tmp_path), notes.append) == b"onnx"
    assert notes == [BUILDING]


def test_one_that_is_installed_and_cannot_be_imported_counts_as_none(
    built: dict[str, float], small_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: str) -> ModuleType:
        raise Exception("libnvinfer.so.11 is not there")

    monkeypatch.setattr(tensorrt_ways, "find_spec", lambda _: "here")
    monkeypatch.setattr(tensorrt_ways, "import_module", broken)
    notes: list[str] = []
    assert fastest_plan(job(small_bundle, tmp_path), notes.append) == b"onnx"
    assert notes == [BUILDING]


@pytest.mark.parametrize(
    ("spec", "library"),
    [
        (SPEC, TENSORRT_RTX),
        (dataclasses.replace(SPEC, precision="int8"), TENSORRT),
        (dataclasses.replace(SPEC, device="cpu"), TENSORRT),
    ],
    ids=["rtx", "int8", "no gpu"],
)
def test_only_tensorrt_on_a_gpu_has_two_ways(
    torch_tensorrt: SimpleNamespace,
    built: dict[str, float],
    small_bundle: Bundle,
    tmp_path: Path,
    spec: EngineSpec,
    library: Library,
) -> None:
    assert fastest_plan(job(small_bundle, tmp_path, spec, library), lambda _: None) == b"onnx"


def test_torch_tensorrt_is_given_the_exported_encoder_and_our_names(
    torch_tensorrt: SimpleNamespace, small_bundle: Bundle, tmp_path: Path
) -> None:
    """On the CPU, as far as the fake goes."""
    spec = dataclasses.replace(SPEC, device="cpu")
    assert through_torch(job(small_bundle, tmp_path, spec)) == b"torch"
    ((program, options),) = torch_tensorrt.asked
    side = small_bundle.recipe.input.size
    (example,) = options["arg_inputs"]
    assert (example.dtype, list(example.shape)) == (torch.uint8, [2, 1, side, side])
    assert (options["arg_input_binding_names"], options["output_binding_names"]) == ((INPUT,), OUTPUT)
    assert options["disable_tf32"] is True
    assert Path(options["timing_cache_path"]).parent == tmp_path
    features = program.module()(example)
    assert (features.dtype, len(features)) == (torch.float32, 2)
    types = {tensor.dtype for tensor in program.state_dict.values()}
    assert {torch.float32, torch.bfloat16} <= types


def test_its_version_is_part_of_the_key_of_tensorrt_alone() -> None:
    named = {runtime.name: "torch-tensorrt" in runtime.distributions for runtime in tensorrt.RUNTIMES}
    assert named == {"tensorrt": True, "tensorrt-rtx": False}
