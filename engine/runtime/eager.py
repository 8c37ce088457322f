"""The reference runtime: plain torch, nothing fused, nothing reordered. Slow and right.

In float32 its golden numbers are the ones in every bundle, and the other runtimes are measured against it. In
bfloat16 and float16 it is the plain twin of what compilers make of the same rewritten encoder. So it takes no kernel of
ours on a GPU, even where one would be faster: whoever wants speed takes a compiled runtime.
"""

# B radiographs · S side · D features

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mxbatch.engine.bundle import Bundle, load_model
from mxbatch.engine.machine import has_bfloat16
from mxbatch.engine.runtime.encoder import EngineSpec, Runtime

if TYPE_CHECKING:
    from torch import Tensor, nn


class EagerEncoder:
    """An `Encoder` that calls the module."""

    def __init__(self, encoder: nn.Module, feature_dim: int) -> None:
        self._encoder = encoder
        self.feature_dim = feature_dim

    def __call__(self, images: Tensor) -> Tensor:
        features_BD: Tensor = self._encoder(images[:, None])
        return features_BD


def _load(bundle: Bundle, spec: EngineSpec, folder: Path, threads: int) -> EagerEncoder:
    import torch

    from mxbatch.engine.runtime.layers import in_precision

    torch.set_num_threads(threads)  # holds for the whole process
    model = load_model(bundle)
    encoder = in_precision(model.encoder, spec.precision)
    if spec.precision != "float32":
        encoder = encoder.to(memory_format=torch.channels_last)
    return EagerEncoder(encoder.to(spec.device), model.feature_dim)


def _precisions(device: str) -> tuple[str, ...]:
    if device != "cpu":
        return ("float32", "bfloat16", "float16")
    return ("float32", "bfloat16") if has_bfloat16() else ("float32",)


RUNTIME = Runtime(
    name="eager",
    summary="plain torch, the reference that every other is compared with",
    precisions=_precisions,
    distributions=("torch", "timm"),
    usable=lambda device: None,
    build=None,
    load=_load,
)
