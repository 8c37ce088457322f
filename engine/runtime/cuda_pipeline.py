"""How batches reach a GPU and features come back, without anybody waiting who could work.

        ring of pinned host buffers                      one set of buffers on the device
    submit ─► images ──copy stream──► images ──┐
                                               ├─► one CUDA graph: encoder ──► features
    result ◄─ features ◄─────────copy──────────┘

uint8 goes over the bus, a fourth of float32. While the GPU computes a batch, the next is copied to it and the one
after is being decoded. The encoder's hundreds of launches are recorded once as a CUDA graph and replayed as one;
every batch therefore runs the same kernels on the same addresses, which keeps its bits the same, too.
"""

# B radiographs, always `batch` of them · S side · D features

from __future__ import annotations

from itertools import cycle

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mxbatch.engine.runtime.encoder import Encoder
from mxbatch.engine.runtime.head import plain_float32
from mxbatch.engine.runtime.scorer import Features

RING = 3
"""Batches under way: one is copied to the device, one computed, one copied back."""
WARM_UP = 3
"""Runs before recording, in which libraries choose their algorithms and take their memory."""


class CudaPipeline:
    """Feeds one encoder on one GPU. Used from one thread.

    All memory is taken here. Raises torch.OutOfMemoryError where it is too little for the batch; `submit`
    cannot fail for that reason any more.
    """

    def __init__(self, encoder: Encoder, device: torch.device, batch: int, side: int) -> None:
        self._device = device
        with torch.cuda.device(device):
            self._copying, self._computing = _stream(), _stream()
            self._images_BSS = torch.zeros(batch, side, side, dtype=torch.uint8, device=device)
            self._graph, self._features_BD = _record(encoder, self._images_BSS, self._computing)
            slots = [_Slot(self._images_BSS, self._features_BD) for _ in range(RING)]
        self._ring = cycle(slots)

    def submit(self, images: NDArray[np.uint8]) -> Features:
        """Queue one batch; `images` may be overwritten as soon as this returns. The result's call waits for it."""
        slot = next(self._ring)
        slot.settle()
        slot.images_BSS.numpy()[...] = images
        with torch.cuda.device(self._device):
            with torch.cuda.stream(self._copying):
                slot.staged_BSS.copy_(slot.images_BSS, non_blocking=True)
                staged = self._copying.record_event()
            with torch.cuda.stream(self._computing):
                self._computing.wait_event(staged)
                self._images_BSS.copy_(slot.staged_BSS)
                self._graph.replay()
                slot.features_BD.copy_(self._features_BD, non_blocking=True)
                return slot.begin(self._computing.record_event())


class _Slot:
    """One batch's own buffers, on the host (pinned, so that copies need no help of the CPU) and on the device."""

    def __init__(self, images_BSS: Tensor, features_BD: Tensor) -> None:
        self.images_BSS = torch.empty(images_BSS.shape, dtype=images_BSS.dtype, pin_memory=True)
        self.staged_BSS = torch.empty_like(images_BSS)
        self.features_BD = torch.empty(features_BD.shape, dtype=features_BD.dtype, pin_memory=True)
        self._ticket: _Ticket | None = None

    def begin(self, done: torch.cuda.Event) -> Features:
        self._ticket = _Ticket(self.features_BD, done)
        return self._ticket

    def settle(self) -> None:
        """Let the batch that was here keep its features, before another takes the buffers."""
        if self._ticket is not None:
            self._ticket()
            self._ticket = None


class _Ticket:
    """The features of one submitted batch: waits for them, once, and keeps them."""

    def __init__(self, features_BD: Tensor, done: torch.cuda.Event) -> None:
        self._features_BD, self._done = features_BD, done
        self._kept: NDArray[np.float32] | None = None

    def __call__(self) -> NDArray[np.float32]:
        if self._kept is None:
            self._done.synchronize()
            self._kept = self._features_BD.numpy().copy()
        return self._kept


def _stream() -> torch.cuda.Stream:
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]


def _record(
    encoder: Encoder, images_BSS: Tensor, stream: torch.cuda.Stream
) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """The encoder on exactly these images as one graph, and the features that its replay writes."""
    with plain_float32():
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                encoder(images_BSS)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            features_BD = encoder(images_BSS)
    return graph, features_BD
