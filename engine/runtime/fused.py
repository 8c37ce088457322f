"""ConvNeXt's depthwise convolution and norm as one kernel, where that is faster: a rewrite of an encoder for CUDA.

Which of the two wins depends on the GPU, on torch's own convolution there, and on the shape. So it is raced on the
device at hand, once for every shape that the encoder really has, when an engine is built; what came of it is compiled
in and written beside it. A stage in which the kernel does not win stays as it is.
"""

# B pictures · C channels · H rows · W columns

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mxbatch.engine.models.backbones import TimmBackbone
from mxbatch.engine.models.hierarchical import Encoder
from mxbatch.engine.runtime.encoder import EngineSpec, Note
from mxbatch.engine.runtime.layers import Float32
from mxbatch.kernels.device import triton_serves
from mxbatch.kernels.dwnorm import DepthwiseNorm, Race, misfit, race

Shape = tuple[int, int, int, int]
"""`[B, C, H, W]` of what goes into a pair."""
Site = tuple[Shape, torch.dtype]
"""What is raced: a shape, and the type that the convolution computes in."""
Racing = Callable[[Shape, torch.dtype, torch.device], Race]
RECORD = "dwnorm.json"


def pairs(encoder: Encoder) -> Iterator[tuple[str, nn.Conv2d, nn.LayerNorm]]:
    """`(name of the block, convolution, norm)` of every pair in `encoder` that the kernel computes."""
    if not isinstance(encoder.backbone, TimmBackbone):
        return
    from timm.models.convnext import ConvNeXtBlock  # loaded already, or the backbone would not be here

    for name, block in encoder.named_modules():
        if isinstance(block, ConvNeXtBlock):
            conv: nn.Module = block.conv_dw
            norm: nn.Module = block.norm.inner if isinstance(block.norm, Float32) else block.norm
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.LayerNorm) and misfit(conv, norm) is None:
                yield name, conv, norm


def sites(encoder: Encoder, side: int, batch: int) -> dict[str, Site]:
    """What goes into each of `pairs` at `batch` pictures of `side` pixels. One picture is computed to see it."""
    found: dict[str, Site] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def see(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            channels, height, width = given[0].shape[1:]
            found[name] = ((batch, channels, height, width), given[0].dtype)

        return see

    hooks = [conv.register_forward_pre_hook(watch(name)) for name, conv, _ in pairs(encoder)]
    if hooks:
        with torch.inference_mode():
            encoder(torch.zeros(1, 1, side, side, dtype=torch.uint8, device=encoder.mean.device))
    for hook in hooks:
        hook.remove()
    return found


def with_kernel(encoder: Encoder, blocks: Collection[str]) -> Encoder:
    """A copy of `encoder` in which the pairs of `blocks` are one module, the same function of the same weights."""
    twin = copy.deepcopy(encoder)
    for name, conv, norm in list(pairs(twin)):
        if name in blocks:
            block = twin.get_submodule(name)
            block.conv_dw, block.norm = DepthwiseNorm(conv, norm), nn.Identity()
    return twin


def winners(found: Mapping[str, Site], races: Mapping[Site, Race]) -> list[str]:
    """The blocks whose site the kernel computes faster by more than noise."""
    return [name for name, site in found.items() if races[site].won]


def fused_where_faster(
    encoder: Encoder, spec: EngineSpec, side: int, folder: Path, note: Note, racing: Racing = race
) -> Encoder:
    """`encoder`, which is on its CUDA device, with the kernel wherever it wins there; the races go to `folder`.

    A kernel that does not run on this GPU is announced and left out. Raises torch.OutOfMemoryError.
    """
    device = torch.device(spec.device)
    found = sites(encoder, side, spec.batch)
    if not found or not triton_serves(device):
        return encoder
    try:
        races = {site: racing(*site, device) for site in dict.fromkeys(found.values())}
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # Triton's compiler and launcher have no common base
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        note(f"the kernel dwnorm does not run here ({reason}): torch's convolution and norm serve")
        return encoder
    won = winners(found, races)
    record = [
        {
            "shape": shape,
            "type": _word(dtype),
            "fused_ms": each.fused_ms,
            "torch_ms": each.torch_ms,
            "used": each.won,
        }
        for (shape, dtype), each in races.items()
    ]
    (folder / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
    note(told(races))
    return with_kernel(encoder, won) if won else encoder


def told(races: Mapping[Site, Race]) -> str:
    """The races in a line."""
    times = ", ".join(
        f"{height}x{width}x{channels} {_word(dtype)} {each.torch_ms / each.fused_ms:.2f}"
        for ((_, channels, height, width), dtype), each in races.items()
    )
    count = sum(each.won for each in races.values())
    return f"the kernel dwnorm is used for {count} of {len(races)} shapes (times as fast as torch: {times})"


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
