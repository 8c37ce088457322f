"""The fused first half of a ConvNeXt block, and what is said where no kernel can run."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from torch import nn

from mxbatch.kernels import device as device_module
from mxbatch.kernels.dwnorm import DepthwiseNorm, Race, misfit

CPU = torch.device("cpu")


@pytest.mark.parametrize("conv_mlp", [False, True], ids=["linear form", "convolution form"])
def test_a_convnext_block_with_the_two_made_one_is_the_same_function(conv_mlp: bool) -> None:
    from timm.models.convnext import ConvNeXtBlock

    torch.manual_seed(0)
    block = ConvNeXtBlock(16, conv_mlp=conv_mlp, ls_init_value=1.0).eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    fused = copy.deepcopy(block)
    fused.conv_dw, fused.norm = DepthwiseNorm(block.conv_dw, block.norm), nn.Identity()
    x = torch.randn(2, 16, 9, 8).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        torch.testing.assert_close(fused(x), block(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"kernel_size": 3, "padding": 1, "groups": 8}, "kernel"),
        ({"kernel_size": 7, "padding": 3, "groups": 1}, "groups"),
        ({"kernel_size": 7, "padding": 3, "groups": 8, "stride": 2}, "stride"),
        ({"kernel_size": 7, "padding": 3, "groups": 8, "padding_mode": "circular"}, "padding mode"),
    ],
)
def test_another_convolution_is_refused_with_the_reason(options: dict[str, int], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        DepthwiseNorm(nn.Conv2d(8, 8, **options), nn.LayerNorm(8))


def test_another_norm_is_refused_with_the_reason() -> None:
    conv = nn.Conv2d(8, 8, 7, padding=3, groups=8)
    assert misfit(conv, nn.LayerNorm(8)) is None
    assert misfit(conv, nn.BatchNorm2d(8)) == "Conv2d and BatchNorm2d"
    assert misfit(conv, nn.LayerNorm([8, 5])) == "norm over (8, 5), not (8,)"


@pytest.mark.parametrize(("fused", "other", "won"), [(1.0, 1.1, True), (1.0, 1.01, False), (1.0, 0.5, False)])
def test_a_race_is_won_by_more_than_noise(fused: float, other: float, won: bool) -> None:
    assert Race(fused, other).won is won


def test_a_gpu_without_triton_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.setattr(device_module, "find_spec", lambda name: None)
    device_module._say.cache_clear()
    gpu = torch.device("cuda")
    with pytest.warns(RuntimeWarning, match="Triton is not installed: plain torch takes the place"):
        assert not device_module.triton_serves(gpu)
    assert not device_module.triton_serves(gpu)  # a second warning would fail this test


def test_a_gpu_without_a_c_compiler_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton builds a launcher for each kernel: without a compiler the first launch would raise."""
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(device_module.shutil, "which", lambda name: None)
    device_module._say.cache_clear()
    with pytest.warns(RuntimeWarning, match="Triton needs a C compiler"):
        assert not device_module.triton_serves(torch.device("cuda"))
    monkeypatch.setenv("CC", "cc")
    assert device_module.triton_serves(torch.device("cuda"))


def test_on_a_cpu_the_twin_serves_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert not device_module.triton_serves(CPU)
