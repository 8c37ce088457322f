"""Engines of NVIDIA's libraries: built here without a GPU by TensorRT-RTX, and run over a fake of its interface."""

from __future__ import annotations

import ctypes
import dataclasses
import struct
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from enum import IntEnum
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import tensorrt_rtx
import torch
from torch import Tensor

from mxbatch.engine.bundle import Bundle
from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.models.backbones import build_backbone
from mxbatch.engine.models.hierarchical import Encoder
from mxbatch.engine.runtime import tensorrt, tensorrt_library
from mxbatch.engine.runtime.encoder import EngineSpec
from mxbatch.engine.runtime.layers import rearranged
from mxbatch.engine.runtime.onnx_graph import INPUT, OUTPUT, export_encoder
from mxbatch.engine.runtime.tensorrt_build import CURRENT, PORTABLE, build_plan
from mxbatch.engine.runtime.tensorrt_library import TENSORRT, TENSORRT_RTX, Library, log_of
from mxbatch.engine.runtime.tensorrt_run import PlanEncoder
from mxbatch.trainer.recipes import list_recipes

RECIPES = {(str(entry.recipe.backbone), entry.recipe.input.size): entry for entry in list_recipes()}
"""One recipe of each encoder: many differ in views, head or training alone."""
needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="shows what happens without a GPU")


class Built(NamedTuple):
    folder: Path
    spec: EngineSpec
    notes: list[str]


# --- built by the real TensorRT-RTX, which needs no GPU for it ---------------------------------------------------


@pytest.fixture(scope="module", params=["float32", "bfloat16", "float16"])
def built(
    request: pytest.FixtureRequest, small_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Built:
    """An engine that was built here, the small bundle's."""
    folder = tmp_path_factory.mktemp("engine")
    spec = EngineSpec(device="cpu", precision=request.param, batch=4)
    notes: list[str] = []
    tensorrt.build(TENSORRT_RTX, small_bundle, spec, folder, notes.append)
    return Built(folder, spec, notes)


def test_an_engine_is_built_without_a_gpu_and_read_again(built: Built) -> None:
    assert [path.name for path in built.folder.iterdir()] == [tensorrt.PLAN]
    assert built.notes[-1] == (
        f"tensorrt-rtx builds an engine in {built.spec.precision} for 4 radiographs at a time"
    )
    assert_is_whole_plan((built.folder / tensorrt.PLAN).read_bytes())


@needs_no_gpu
@pytest.mark.parametrize(
    ("damage", "code", "words"),
    [
        (lambda plan: b"\0" * len(plan), "MX-M005", "refuses the engine: malformed engine"),
        (lambda plan: plan, "MX-M006", "does not fit this machine: .*CUDA driver"),
    ],
    ids=["damaged", "whole"],
)
def test_the_library_says_why_it_does_not_open_an_engine(
    built: Built,
    small_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[bytes], bytes],
    code: str,
    words: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    plan = (built.folder / tensorrt.PLAN).read_bytes()
    (tmp_path / tensorrt.PLAN).write_bytes(damage(plan))
    with pytest.raises(EnvironmentFault, match=words) as raised:
        tensorrt.load(TENSORRT_RTX, small_bundle, built.spec, tmp_path, 1)
    assert raised.value.code == code


@pytest.mark.slow
@pytest.mark.parametrize("entry", RECIPES.values(), ids=lambda entry: entry.name)
def test_every_recipe_becomes_an_engine(entry: Any, tmp_path: Path) -> None:
    recipe = entry.recipe
    encoder = rearranged(Encoder(build_backbone(recipe.backbone)).eval(), recipe.backbone, "bfloat16")
    export_encoder(encoder, batch=2, size=recipe.input.size, path=tmp_path / "encoder.onnx")
    assert_is_whole_plan(build(tmp_path / "encoder.onnx"))


def test_a_graph_that_the_library_does_not_know_is_refused_in_one_line(tmp_path: Path) -> None:
    write_graph(tmp_path / "odd.onnx", "Nonsense", domain="elsewhere")
    with pytest.raises(
        EnvironmentFault, match=r"tensorrt_rtx does not take the graph: odd_node: .*Plugin not found"
    ) as raised:
        build(tmp_path / "odd.onnx")
    assert raised.value.code == "MX-M006"
    assert "\n" not in str(raised.value)


@needs_no_gpu
def test_no_engine_is_built_for_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    write_graph(tmp_path / "graph.onnx", "Relu")
    with pytest.raises(EnvironmentFault, match=r"no engine came of the graph: .*CUDA driver") as raised:
        build(tmp_path / "graph.onnx", targets=CURRENT)
    assert raised.value.code == "MX-M006"


def test_a_library_in_which_all_networks_are_strongly_typed_needs_no_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT 11 has no other kind left, and may drop the word."""
    write_graph(tmp_path / "graph.onnx", "Relu")
    monkeypatch.setattr(tensorrt_rtx, "NetworkDefinitionCreationFlag", SimpleNamespace(__members__={}))
    assert build(tmp_path / "graph.onnx")


@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
def test_measured_kernels_are_remembered_in_a_file_and_a_damaged_one_is_replaced(tmp_path: Path) -> None:
    """The code that TensorRT goes through, over TensorRT-RTX, which measures nothing and keeps an empty record."""
    write_graph(tmp_path / "graph.onnx", "Relu")
    measuring, timings = dataclasses.replace(TENSORRT_RTX, times_kernels=True), tmp_path / "rtx.timings"
    for before in (None, "its own", b"damaged"):
        if isinstance(before, bytes):
            timings.write_bytes(before)
        assert build(tmp_path / "graph.onnx", library=measuring, timings=timings)
        assert timings.read_bytes() not in (b"", b"damaged")
    assert {path.name for path in tmp_path.iterdir()} == {"graph.onnx", "rtx.timings"}


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

BATCH, SIDE, D = 3, 5, 2
SPEC = EngineSpec(device="cpu", precision="bfloat16", batch=BATCH)


class Severity(IntEnum):
    ERROR = 1


class FakeTensorRT:
    """TensorRT as far as running goes. Its engine's features are the sum of the grey levels, and the first of them."""

    __name__ = "fake"
    EngineValidity = SimpleNamespace(INVALID=2)
    EngineInvalidityDiagnostics = SimpleNamespace(
        __members__={"VERSION_MISMATCH": 1, "UNSUPPORTED_CC": 2, "MALFORMED_ENGINE": 32}
    )
    DataType = SimpleNamespace(UINT8="uint8")

    class ILogger:
        ERROR = Severity.ERROR

    def __init__(self) -> None:
        self.validity = (0, 0)
        self.silent: set[str] = set()  # the calls that give nothing, after saying `says`
        self.says = "Error Code 1: odd"
        self.batch = BATCH
        self.streams: list[int] = []
        self.caches: list[bytes] = []
        self.Runtime = lambda log: self._or_nothing("Runtime", FakeRuntime(self))

    def _or_nothing(self, call: str, value: Any) -> Any:
        if call in self.silent:
            log_of(self).log(Severity.ERROR, self.says)
            return None
        return value


class FakeRuntime:
    def __init__(self, trt: FakeTensorRT) -> None:
        self.trt = trt

    def get_engine_validity(self, plan: bytes) -> tuple[int, int]:
        return self.trt.validity

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        return self.trt._or_nothing("deserialize", FakeEngine(self.trt))


class FakeEngine:
    num_io_tensors = 2

    def __init__(self, trt: FakeTensorRT) -> None:
        self.trt = trt
        self.shapes = {INPUT: (trt.batch, 1, SIDE, SIDE), OUTPUT: (trt.batch, D)}

    def get_tensor_name(self, index: int) -> str:
        return (OUTPUT, INPUT)[index]

    def get_tensor_dtype(self, name: str) -> str:
        return {INPUT: "uint8", OUTPUT: "float32"}[name]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def create_runtime_config(self) -> Any:
        cache = SimpleNamespace(deserialize=self.trt.caches.append, serialize=lambda: b"kernels")
        return SimpleNamespace(create_runtime_cache=lambda: cache, set_runtime_cache=self.trt.caches.append)

    def create_execution_context(self, *config: Any) -> Any:
        return self.trt._or_nothing("context", FakeContext(self.trt))


class FakeContext:
    def __init__(self, trt: FakeTensorRT) -> None:
        self.trt = trt
        self.addresses: dict[str, int] = {}

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        self.trt.streams.append(stream)
        images = np.ctypeslib.as_array(
            ctypes.cast(self.addresses[INPUT], ctypes.POINTER(ctypes.c_uint8)), (BATCH, SIDE * SIDE)
        )
        features = np.ctypeslib.as_array(
            ctypes.cast(self.addresses[OUTPUT], ctypes.POINTER(ctypes.c_float)), (BATCH, D)
        )
        features[:] = np.stack([images.sum(axis=1), images[:, 0]], axis=1)
        return self.trt._or_nothing("execute", True) is True


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


# --- helpers -------------------------------------------------------------------------------------------------------


def build(
    graph: Path,
    *,
    library: Library = TENSORRT_RTX,
    targets: tuple[str, ...] = PORTABLE,
    timings: Path = Path("unused"),
) -> bytes:
    return build_plan(library, graph, targets=targets, timings=timings)


def assert_is_whole_plan(plan: bytes) -> None:
    """Read the header again: it is of this library's version, as long as it says, and for SM80 to SM120.

    Nothing documents these 64 bytes; they are as TensorRT-RTX 1.7 writes them. Reading more takes a GPU.
    """
    tag, length, version, targets = struct.unpack_from("<4s12xQ4s4xQ", plan)
    assert tag == b"vtrt"
    assert length == len(plan)
    assert ".".join(map(str, version[:4])) == tensorrt_rtx.__version__
    assert targets == 0b11110, "a bit each for SM80, SM86, SM89, SM120"


def write_graph(path: Path, operator: str, domain: str = "") -> None:
    """A graph of one node."""
    tensor = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 2]) for name in (INPUT, OUTPUT)
    ]
    node = onnx.helper.make_node(operator, [INPUT], [OUTPUT], name="odd_node", domain=domain)
    opsets = [onnx.helper.make_opsetid(name, 20) for name in {"", domain}]
    graph = onnx.helper.make_graph([node], "graph", tensor[:1], tensor[1:])
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
