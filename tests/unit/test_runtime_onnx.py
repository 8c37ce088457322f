"""The ONNX graph says what the encoder says, and onnxruntime computes it as it stands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from mxbatch.engine.bundle import Bundle, load_model, write_untrained
from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.models.recipe import Recipe
from mxbatch.engine.runtime import ort
from mxbatch.engine.runtime.encoder import Encoder, EngineSpec
from mxbatch.engine.runtime.golden import golden_images
from mxbatch.engine.runtime.onnx_graph import INPUT, OUTPUT, write_onnx

BATCH, SIZE = 4, 64
TINY = {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}
BACKBONES = {
    "convnext": {"name": "convnext_tiny", **TINY},
    "v2": {"name": "convnextv2_tiny", **TINY},
    "cae": {"kind": "cae", "name": "small", "widths": [8, 16], "latent": 16},
    "local": {"kind": "cae", "name": "small", "contrast": "local", "widths": [8, 16], "latent": 16},
}
FLOAT32 = EngineSpec(device="cpu", precision="float32", batch=BATCH)


@pytest.fixture(scope="module", params=BACKBONES)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    recipe = Recipe.from_dict(
        {"name": "test", "backbone": BACKBONES[request.param], "head": {"width": 16}, "input": {"size": SIZE}}
    )
    return write_untrained(tmp_path_factory.mktemp("bundles") / "bundle", recipe=recipe)


@pytest.fixture(scope="module")
def encoder(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder = tmp_path_factory.mktemp("engine")
    notes: list[str] = []
    assert ort.RUNTIME.build is not None
    ort.RUNTIME.build(bundle, FLOAT32, folder, notes.append, None)
    assert notes == ["writing the encoder as an ONNX graph"]
    return ort.RUNTIME.load(bundle, FLOAT32, folder, 1)


def pictures(seed: int = 0) -> Tensor:
    return torch.from_numpy(golden_images(SIZE, seed))


def test_onnxruntime_gives_the_features_of_the_model(bundle: Bundle, encoder: Encoder) -> None:
    with torch.inference_mode():
        expected = load_model(bundle).encoder(pictures()[:, None])
    features = encoder(pictures())
    assert features.dtype == torch.float32
    assert features.shape == (BATCH, encoder.feature_dim)
    assert float((features - expected).abs().max() / expected.abs().max()) < 1e-5


def test_a_picture_gives_the_same_bits_in_any_slot_beside_any_neighbours_and_every_time(
    encoder: Encoder,
) -> None:
    images = pictures()
    features = encoder(images)
    assert len(np.unique(features, axis=0)) == BATCH
    assert torch.equal(encoder(images), features)
    for shift in range(1, BATCH):
        assert torch.equal(encoder(images.roll(shift, 0)), features.roll(shift, 0))
    company = pictures(seed=1)
    for slot in range(BATCH):
        among_others = company.clone()
        among_others[slot] = images[slot]
        assert torch.equal(encoder(among_others)[slot], features[slot])


def test_results_of_one_call_outlive_the_next(encoder: Encoder) -> None:
    first = encoder(pictures())
    kept = first.clone()
    encoder(pictures(seed=1))
    assert torch.equal(first, kept)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_the_graph_has_one_batch_size_and_its_types_are_the_precision(
    bundle: Bundle, tmp_path: Path, precision: str
) -> None:
    path = tmp_path / "encoder.onnx"
    write_onnx(bundle, EngineSpec(device="cpu", precision=precision, batch=3), path)
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    (images,), (features,) = graph.input, graph.output
    assert (images.name, shape_of(images)) == (INPUT, (3, 1, SIZE, SIZE))
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert (features.name, shape_of(features)[0]) == (OUTPUT, 3)
    assert features.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert (
        {precision} <= types_into(graph, {"Conv", "MatMul", "Gemm"}) <= {precision, "float32"}
    )  # at the ends
    assert types_into(graph, {"LayerNormalization", "InstanceNormalization", "ReduceMean"}) <= {"float32"}


@pytest.mark.parametrize(("device", "answer"), [("cpu", None), ("cuda:0", "--device cpu")])
def test_onnxruntime_says_where_it_is_of_use(device: str, answer: str | None) -> None:
    said = ort.RUNTIME.usable(device)
    assert said is answer if answer is None else answer in str(said)


@pytest.mark.parametrize("package", ["onnxruntime", "onnxscript"])
def test_without_its_packages_onnxruntime_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setattr(ort, "find_spec", lambda name: None if name == package else "here")
    assert ort.RUNTIME.usable("cpu") == f"{package} is not installed: pip install 'mxbatch[onnx]'"


def test_a_graph_that_is_none_is_a_corrupt_engine(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / ort.GRAPH).write_bytes(b"no graph")
    with pytest.raises(EnvironmentFault, match="onnxruntime refuses the graph") as raised:
        ort.RUNTIME.load(bundle, FLOAT32, tmp_path, 1)
    assert raised.value.code == "MX-M005"


def shape_of(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(dimension.dim_value for dimension in value.type.tensor_type.shape.dim)


def types_into(graph: onnx.GraphProto, operators: set[str]) -> set[str]:
    """The types of what the nodes of these kinds take first."""
    names = {
        onnx.TensorProto.FLOAT: "float32",
        onnx.TensorProto.BFLOAT16: "bfloat16",
        onnx.TensorProto.FLOAT16: "float16",
    }
    types = {value.name: names.get(value.type.tensor_type.elem_type, "other") for value in graph.value_info}
    return {types[node.input[0]] for node in graph.node if node.op_type in operators}
