"""What needs a GPU and NVIDIA's libraries: engines that give the features of the model, in any slot and in a graph."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mxbatch.engine.bundle import Bundle, load_model
from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.runtime import tensorrt
from mxbatch.engine.runtime.cuda_pipeline import CudaPipeline
from mxbatch.engine.runtime.encoder import Encoder, EngineSpec
from mxbatch.engine.runtime.golden import golden_images
from mxbatch.engine.runtime.tensorrt_library import TENSORRT, TENSORRT_RTX, Library

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DEVICE, BATCH = "cuda:0", 4
ALLOWED = {"float32": 1e-4, "float16": 0.02, "bfloat16": 0.05}
"""Largest difference of a feature, as a share of the largest feature."""


@pytest.fixture(scope="module", params=[TENSORRT, TENSORRT_RTX], ids=lambda library: library.name)
def library(request: pytest.FixtureRequest) -> Library:
    """Each library that is installed and knows this GPU."""
    found: Library = request.param
    if why := tensorrt.usable(found, DEVICE):
        pytest.skip(why)
    major, minor = torch.cuda.get_device_capability(DEVICE)
    known = getattr(import_module(found.module), "ComputeCapability", None)
    if found.compiles_at_load and known and f"SM{major}{minor}" not in known.__members__:
        pytest.skip(f"{found.name} names no SM{major}{minor}")
    return found


@pytest.fixture(scope="module", params=list(ALLOWED))
def spec(request: pytest.FixtureRequest) -> EngineSpec:
    if request.param == "bfloat16" and torch.cuda.get_device_capability(DEVICE) < (8, 0):
        pytest.skip("this GPU has no bfloat16")
    return EngineSpec(device=DEVICE, precision=request.param, batch=BATCH)


@pytest.fixture(scope="module")
def folder(
    library: Library, spec: EngineSpec, small_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("engine") / "entry"
    path.mkdir()
    tensorrt.build(library, small_bundle, spec, path, lambda _: None)
    return path


@pytest.fixture(scope="module")
def encoder(library: Library, spec: EngineSpec, small_bundle: Bundle, folder: Path) -> Encoder:
    return tensorrt.load(library, small_bundle, spec, folder, 1)


@pytest.fixture(scope="module")
def images(small_bundle: Bundle) -> Tensor:
    return torch.from_numpy(golden_images(small_bundle.recipe.input.size)).to(DEVICE)


def test_features_are_those_of_the_model(
    encoder: Encoder, spec: EngineSpec, small_bundle: Bundle, images: Tensor
) -> None:
    with torch.inference_mode():
        expected = load_model(small_bundle).encoder(images[:, None].cpu())
    features = encoder(images).cpu()
    assert float((features - expected).abs().max() / expected.abs().max()) < ALLOWED[spec.precision]


def test_a_picture_gives_the_same_bits_in_every_slot(encoder: Encoder, images: Tensor) -> None:
    features = encoder(images)
    for shift in range(1, BATCH):
        assert torch.equal(encoder(images.roll(shift, 0)), features.roll(shift, 0))


def test_an_engine_gives_the_same_bits_each_time_it_is_loaded(
    library: Library, spec: EngineSpec, small_bundle: Bundle, folder: Path, encoder: Encoder, images: Tensor
) -> None:
    again = tensorrt.load(library, small_bundle, spec, folder, 1)
    assert torch.equal(again(images), encoder(images))


def test_an_engine_can_be_recorded_in_a_cuda_graph(
    encoder: Encoder, small_bundle: Bundle, images: Tensor
) -> None:
    pipeline = CudaPipeline(encoder, torch.device(DEVICE), BATCH, small_bundle.recipe.input.size)
    others = images.flip(2).contiguous()
    tickets = [pipeline.submit(batch.cpu().numpy()) for batch in (images, others)]
    for ticket, batch in zip(tickets, (images, others), strict=True):
        assert np.array_equal(ticket(), encoder(batch).cpu().numpy())


def test_an_engine_that_was_cut_short_is_corrupt(
    library: Library, spec: EngineSpec, small_bundle: Bundle, folder: Path, encoder: Encoder, tmp_path: Path
) -> None:
    plan = (folder / tensorrt.PLAN).read_bytes()
    (tmp_path / tensorrt.PLAN).write_bytes(plan[: len(plan) // 2])
    with pytest.raises(EnvironmentFault) as raised:
        tensorrt.load(library, small_bundle, spec, tmp_path, 1)
    assert raised.value.code == "MX-M005"
