"""Engines that the real TensorRT-RTX builds here, for which it needs no GPU, and what it does not take."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import onnx
import pytest
import tensorrt_rtx
import torch

from mxbatch.engine.bundle import Bundle
from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.models.backbones import build_backbone
from mxbatch.engine.models.hierarchical import Encoder
from mxbatch.engine.runtime import tensorrt
from mxbatch.engine.runtime.encoder import EngineSpec
from mxbatch.engine.runtime.layers import rearranged
from mxbatch.engine.runtime.onnx_graph import INPUT, OUTPUT, export_encoder
from mxbatch.engine.runtime.tensorrt_build import CURRENT, PORTABLE, build_plan
from mxbatch.engine.runtime.tensorrt_library import TENSORRT_RTX, Library
from mxbatch.trainer.recipes import list_recipes

RECIPES = {(str(entry.recipe.backbone), entry.recipe.input.size): entry for entry in list_recipes()}
"""One recipe of each encoder: many differ in views, head or training alone."""
needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="shows what happens without a GPU")


class Built(NamedTuple):
    folder: Path
    spec: EngineSpec
    notes: list[str]


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
