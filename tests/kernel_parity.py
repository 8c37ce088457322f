"""Every kernel beside its twin: natively for gpu/test_kernels.py, interpreted for unit/test_kernels_interpreter.py."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from mxbatch.engine.models.backbones import build_backbone
from mxbatch.engine.models.hierarchical import Encoder
from mxbatch.engine.models.recipe import Backbone
from mxbatch.engine.runtime.fused import sites, with_kernel
from mxbatch.engine.runtime.golden import golden_images
from mxbatch.engine.runtime.layers import in_precision
from mxbatch.kernels.calls import CallRules, calls, calls_plainly, path_probabilities, unpack
from mxbatch.kernels.device import interpreted, triton_serves
from mxbatch.kernels.dwnorm import DepthwiseNorm, dwnorm_plainly
from mxbatch.kernels.prepare import Normalise, Picture, prepare, prepare_plainly

S = 16
WINDOW = (0.5, 99.5)
PARENTS = (-1, 0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, -1, 14, 15, 16)
"""The built-in tree and a chain of four: two words, and more nodes in the second than there are levels."""


@pytest.fixture
def device() -> torch.device:
    found = torch.device("cpu" if interpreted() else "cuda")
    assert triton_serves(found), "else the twin would be compared with itself"
    return found


def drawn(height: int, width: int, top: int) -> Tensor:
    """Waves and noise from 0 to `top`."""
    noise = torch.rand(height, width, generator=torch.Generator().manual_seed(height))
    y, x = torch.arange(height)[:, None], torch.arange(width)[None, :]
    grey = torch.sin(y / 5) + torch.cos(x / 7) + noise
    grey = (grey - grey.min()) / (grey.max() - grey.min())
    return (grey * top).round().to(torch.uint8 if top < 256 else torch.uint16)


def ragged(device: torch.device) -> list[Picture]:
    """Large and small, high and wide, shallow and deep, inverted, decoded at half its size, cut out of another."""
    return [
        Picture(drawn(101, 70, 255).to(device), 70, 101),
        Picture(drawn(9, 13, 255).to(device), 13, 9, white_is_zero=True),
        Picture(drawn(37, 64, 60_000).to(device), 64, 37, white_is_zero=True),
        Picture(drawn(37, 40, 250).to(device), 79, 73),
        Picture(drawn(40, 60, 4_000).to(device)[3:35, 7:55], 48, 32),
    ]


def test_prepared_pictures_are_within_one_grey_level_of_the_twins(device: torch.device) -> None:
    pictures = ragged(device)
    expected = prepare_plainly(pictures, S, WINDOW)
    found = prepare(pictures, S, WINDOW, Normalise(mean=0.3, std=0.2))
    apart = (found.images_BSS.int() - expected.images_BSS.int()).abs()
    assert apart.max() <= 1
    assert (apart > 0).float().mean() < 0.01
    assert not found.blank_B.any()
    assert found.normalised_B1SS is not None
    again = (found.images_BSS.float() / 255 - 0.3) / 0.2
    torch.testing.assert_close(found.normalised_B1SS[:, 0], again)


def test_a_picture_without_contrast_is_blank_and_black(device: torch.device) -> None:
    flat = Picture(torch.full((20, 20), 77, dtype=torch.uint8, device=device), 20, 20, white_is_zero=True)
    for found in (prepare([flat], S, WINDOW), prepare_plainly([flat], S, WINDOW)):
        assert found.blank_B.tolist() == [True]
        assert not found.images_BSS.any()


def rules(device: torch.device, *, conditional: bool) -> CallRules:
    spread = torch.linspace(0, 1, len(PARENTS), device=device)
    return CallRules(
        parents=PARENTS,
        scale_K=0.5 + spread,
        bias_K=0.5 - spread,
        normal_below_K=0.6 - 0.5 * spread,  # falling: else a child's rank is the least by itself
        abnormal_from_K=0.9 - 0.7 * spread,
        conditional=conditional,
    )


@pytest.mark.parametrize("conditional", [True, False])
def test_calls_of_the_whole_tree_are_those_of_the_twin(device: torch.device, conditional: bool) -> None:
    how = rules(device, conditional=conditional)
    logits = 3 * torch.randn(70, len(PARENTS), generator=torch.Generator().manual_seed(0))
    logits[3, 1], logits[5], logits[6], logits[7, 0] = math.nan, math.inf, -math.inf, math.nan
    p_NK, packed_NW = calls(logits.to(device), how)
    plain_NK, plain_NW = calls_plainly(logits.to(device), how)
    torch.testing.assert_close(p_NK, plain_NK, equal_nan=True)
    assert torch.equal(path_probabilities(logits.to(device), how).nan_to_num(-1), p_NK.nan_to_num(-1))
    near = torch.zeros_like(p_NK, dtype=torch.bool)
    for threshold_K in (how.normal_below_K, how.abnormal_from_K):
        near |= (plain_NK - threshold_K).abs() < 1e-5
    assert not near.any(), "the draw is one in which no call hangs on a last bit"
    assert torch.equal(packed_NW, plain_NW)
    assert {-1, 0, 1, 2} == set(unpack(packed_NW, len(PARENTS)).flatten().tolist())
    for child, parent in enumerate(PARENTS):
        assert parent < 0 or not (p_NK[:, child] > p_NK[:, parent]).any()


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [(torch.float32, (2, 8, 5, 9)), (torch.bfloat16, (1, 24, 7, 7)), (torch.float16, (1, 16, 8, 3))],
)
def test_convolution_and_norm_are_the_twins_to_the_last_bits_of_their_type(
    device: torch.device, dtype: torch.dtype, shape: tuple[int, int, int, int]
) -> None:
    torch.manual_seed(0)
    channels = shape[1]
    conv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels, dtype=dtype)
    norm = nn.LayerNorm(channels, eps=1e-6)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    fused = DepthwiseNorm(conv, norm).to(device)
    x_BCHW = torch.randn(shape).to(device, dtype).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        found = fused(x_BCHW)
        plain = dwnorm_plainly(x_BCHW, fused.weight_TC, fused.bias_C, fused.gain_C, fused.shift_C, 1e-6)
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    step = {torch.float32: 2e-5, torch.bfloat16: 2**-7, torch.float16: 2**-10}[dtype]
    torch.testing.assert_close(found.float(), plain.float(), rtol=step, atol=step)


@pytest.mark.parametrize(("precision", "allowed"), [("float32", 1e-4), ("bfloat16", 0.05)])
def test_an_encoder_with_the_kernel_in_it_computes_the_same_features(
    device: torch.device, precision: str, allowed: float
) -> None:
    torch.manual_seed(0)
    recipe = Backbone(name="convnext_tiny", settings={"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]})
    encoder = in_precision(Encoder(build_backbone(recipe)).eval(), precision)
    encoder = encoder.to(device, memory_format=torch.channels_last)
    fused = with_kernel(encoder, list(sites(encoder, 32, 1)))
    assert sum(isinstance(module, DepthwiseNorm) for module in fused.modules()) == 4
    images = torch.from_numpy(golden_images(32))[:2, None].to(device)
    with torch.inference_mode():
        found, plain = fused(images), encoder(images)
    assert (found - plain).abs().max() <= allowed * plain.abs().max()
