"""An encoder of any runtime and the head of the same bundle, joined to a `Scorer`."""

# B radiographs · S side · D features

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from mxbatch.engine.bundle import Bundle
from mxbatch.engine.errors import UsageError
from mxbatch.engine.runtime.cuda_pipeline import CudaPipeline
from mxbatch.engine.runtime.encoder import Encoder, EngineSpec
from mxbatch.engine.runtime.head import FusionHead, plain_float32
from mxbatch.engine.runtime.scorer import Features, require_batch


class BundleScorer:
    """A `Scorer` over torch's tensors. On a GPU its batches go through a `CudaPipeline`."""

    def __init__(self, bundle: Bundle, runtime: str, spec: EngineSpec, encoder: Encoder) -> None:
        self.name = f"{runtime}-{spec.precision}"
        self.precision, self.batch = spec.precision, spec.batch
        self.feature_dim = encoder.feature_dim
        device = usable_device(spec.device)
        self._head = FusionHead(bundle, device)
        self.fuse = self._head.fuse
        self._submit: Callable[[NDArray[np.uint8]], Features]
        if device.type == "cuda":
            self._submit = CudaPipeline(encoder, device, spec.batch, bundle.recipe.input.size).submit
        else:
            self._submit = _Immediate(encoder).submit

    def submit(self, images: NDArray[np.uint8]) -> Features:
        require_batch(images, self.batch)
        return self._submit(images)

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.submit(images)()


class _Immediate:
    """On a CPU nothing is gained by waiting: the work is done when it is submitted."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def submit(self, images: NDArray[np.uint8]) -> Features:
        with plain_float32():
            features_BD: NDArray[np.float32] = self._encoder(torch.from_numpy(images)).numpy()
        return lambda: features_BD


def usable_device(name: str) -> torch.device:
    """The torch device called `name`. Raises UsageError MX-U001 where there is none."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises AssertionError in builds without CUDA
        reason = str(error).splitlines()[0]
        raise UsageError("MX-U001", f"there is no device {name!r} here: {reason}") from error
    return device
