"""The kernel dwnorm within an encoder: the same function, only where it wins, and told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from mxbatch.engine.models.backbones import build_backbone
from mxbatch.engine.models.hierarchical import Encoder
from mxbatch.engine.models.recipe import Backbone
from mxbatch.engine.runtime import fused
from mxbatch.engine.runtime.encoder import EngineSpec
from mxbatch.engine.runtime.fused import RECORD, fused_where_faster, sites, winners, with_kernel
from mxbatch.engine.runtime.golden import golden_images
from mxbatch.engine.runtime.layers import in_precision, rearranged
from mxbatch.kernels.dwnorm import DepthwiseNorm, Race

TINY = {"depths": [2, 1, 1, 1], "dims": [8, 16, 24, 32]}
SPEC = EngineSpec(device="cuda:0", precision="bfloat16", batch=6)
LARGE, SMALL = (6, 8, 16, 16), (6, 32, 2, 2)
"""What goes into the first and the last stage at 64 pixels."""
F32, BF16 = torch.float32, torch.bfloat16


def make(name: str = "convnext_tiny", settings: dict[str, Any] | None = None, **recipe: Any) -> Encoder:
    """An encoder of random weights, none at a value that hides."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        given = TINY if settings is None else settings
        encoder = Encoder(build_backbone(Backbone(name=name, settings=given, **recipe))).eval()
        for parameter in encoder.parameters():
            if parameter.ndim == 1:
                nn.init.normal_(parameter, mean=0.5, std=0.2)
    return encoder


def features(encoder: nn.Module) -> Tensor:
    with torch.inference_mode():
        found: Tensor = encoder(torch.from_numpy(golden_images(64))[:, None])
    return found


def kernels_in(encoder: nn.Module) -> int:
    return sum(isinstance(module, DepthwiseNorm) for module in encoder.modules())


def test_the_shapes_are_those_that_the_encoder_really_has() -> None:
    shapes = [LARGE, LARGE, (6, 16, 8, 8), (6, 24, 4, 4), SMALL]
    found = sites(make(), 64, 6)
    assert list(found.values()) == [(shape, F32) for shape in shapes]
    assert next(iter(found)) == "backbone.body.stages.0.blocks.0"
    assert list(sites(in_precision(make(), "bfloat16"), 64, 6).values()) == [
        (shape, BF16) for shape in shapes
    ]


@pytest.mark.parametrize("conv_mlp", [False, True], ids=["linear form", "convolution form"])
@pytest.mark.parametrize(("precision", "allowed"), [("float32", 1e-4), ("bfloat16", 0.05)])
def test_the_rewritten_encoder_is_the_same_function_and_the_given_one_stays(
    conv_mlp: bool, precision: str, allowed: float
) -> None:
    settings = {**TINY, "conv_mlp": conv_mlp}
    encoder = rearranged(
        make(settings=settings), Backbone(name="convnext_tiny", settings=settings), precision
    )
    before = features(encoder)
    twin = with_kernel(encoder, list(sites(encoder, 64, 1)))
    assert (kernels_in(twin), kernels_in(encoder)) == (5, 0)
    assert (features(twin) - before).abs().max() <= allowed * before.abs().max()
    assert torch.equal(features(encoder), before)


def test_only_the_blocks_that_were_named_are_rewritten() -> None:
    encoder = make()
    name = next(iter(sites(encoder, 64, 1)))
    twin = with_kernel(encoder, [name])
    assert isinstance(twin.get_submodule(name).conv_dw, DepthwiseNorm)
    assert kernels_in(twin) == 1


@pytest.mark.parametrize(
    "encoder",
    [
        make("test_resnet", {}),
        make("small", {"widths": [8, 16], "latent": 16}, kind="cae"),
    ],
    ids=["resnet", "autoencoder"],
)
def test_what_has_no_such_pair_has_nothing_to_race(encoder: Encoder, tmp_path: Path) -> None:
    assert sites(encoder, 64, 1) == {}
    assert fused_where_faster(encoder, SPEC, 64, tmp_path, pytest.fail) is encoder
    assert not list(tmp_path.iterdir())


def test_the_kernel_is_taken_where_it_wins_and_nowhere_else() -> None:
    large, small, coarse = (LARGE, F32), (SMALL, F32), (LARGE, BF16)
    races = {large: Race(1.0, 1.5), small: Race(1.0, 1.01), coarse: Race(1.0, 0.8)}
    assert winners({"a": large, "b": small, "c": large, "d": coarse}, races) == ["a", "c"]
    assert winners({"b": small}, races) == []


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU on which Triton serves, for whoever only asks."""
    monkeypatch.setattr(fused, "triton_serves", lambda device: True)


@pytest.mark.usefixtures("gpu")
def test_every_shape_is_raced_once_and_what_came_of_it_is_told_and_kept(tmp_path: Path) -> None:
    asked: list[tuple[Any, ...]] = []
    notes: list[str] = []

    def racing(shape: fused.Shape, dtype: torch.dtype, device: torch.device) -> Race:
        asked.append((shape, dtype, device))
        return Race(1.0, 2.0) if shape == LARGE else Race(1.0, 0.5)

    twin = fused_where_faster(make(), SPEC, 64, tmp_path, notes.append, racing)
    assert kernels_in(twin) == 2  # both blocks of the first stage
    assert len(asked) == 4
    assert asked[0] == (LARGE, F32, torch.device("cuda:0"))
    kept = json.loads((tmp_path / RECORD).read_text())
    assert [race["used"] for race in kept] == [True, False, False, False]
    assert kept[0] == {
        "shape": list(LARGE),
        "type": "float32",
        "fused_ms": 1.0,
        "torch_ms": 2.0,
        "used": True,
    }
    assert notes == [
        "the kernel dwnorm is used for 1 of 4 shapes (times as fast as torch: 16x16x8 float32 2.00, "
        "8x8x16 float32 0.50, 4x4x24 float32 0.50, 2x2x32 float32 0.50)"
    ]


@pytest.mark.usefixtures("gpu")
def test_a_kernel_that_does_not_run_is_announced_and_left_out(tmp_path: Path) -> None:
    def racing(shape: fused.Shape, dtype: torch.dtype, device: torch.device) -> Race:
        raise RuntimeError("no kernel image\nfor this device")

    notes: list[str] = []
    encoder = make()
    assert fused_where_faster(encoder, SPEC, 64, tmp_path, notes.append, racing) is encoder
    assert notes == [
        "the kernel dwnorm does not run here (no kernel image): torch's convolution and norm serve"
    ]


@pytest.mark.usefixtures("gpu")
def test_want_of_memory_is_the_batchs_fault_and_not_the_kernels(tmp_path: Path) -> None:
    def racing(shape: fused.Shape, dtype: torch.dtype, device: torch.device) -> Race:
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(torch.OutOfMemoryError):
        fused_where_faster(make(), SPEC, 64, tmp_path, pytest.fail, racing)


def test_exported_for_a_gpu_the_kernel_is_one_operator_that_inductor_sees_through() -> None:
    """On a GPU that is not here: tensors without numbers."""
    pytest.importorskip("triton", reason="there is no Triton for this system")
    encoder = make()
    twin = with_kernel(encoder, list(sites(encoder, 64, 1))).requires_grad_(False)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        for module in twin.modules():
            for tensors in (module._parameters, module._buffers):
                for name, tensor in tensors.items():
                    if tensor is not None:
                        far = torch.empty_strided(tensor.shape, tensor.stride(), device="cuda:0")
                        tensors[name] = nn.Parameter(far, requires_grad=False)
        images = torch.zeros(6, 1, 64, 64, dtype=torch.uint8, device="cuda:0")
        graph = torch.export.export(twin, (images,)).graph
    assert [str(node.target) for node in graph.nodes].count("mxbatch.dwnorm.default") == 5
