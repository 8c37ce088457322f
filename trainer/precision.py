"""In which numbers the encoder computes while it is trained, and what rounding will do to it afterwards."""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from mxbatch.engine.models.hierarchical import HierarchicalModel
from mxbatch.engine.runtime.layers import in_precision


def precision_on(device: torch.device, wanted: str) -> torch.dtype:
    """`torch.float32` or `torch.bfloat16`; `auto` is bfloat16 where the device computes in it.

    Weights, gradients, the optimiser and the head stay in float32 either way.
    """
    if wanted != "auto":
        return torch.float32 if wanted == "float32" else torch.bfloat16
    native = (
        torch.cuda.is_bf16_supported(including_emulation=False)
        if device.type == "cuda"
        else _cpu_has_bfloat16()
    )
    return torch.bfloat16 if native else torch.float32


def _cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; where torch has to imitate it, float32 is faster."""
    try:
        flags = (
            Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("flags")[2].partition("\n")[0].split()
        )
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)


def in_bfloat16(model: HierarchicalModel) -> HierarchicalModel:
    """A copy of `model` whose encoder computes as every runtime of the engine does in bfloat16."""
    twin = copy.deepcopy(model).eval()
    twin.encoder = in_precision(twin.encoder, "bfloat16")
    return twin
