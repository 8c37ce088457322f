"""The ring of buffers before and behind a GPU, on a CPU: streams and graphs are faked, the bookkeeping is real."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from mxbatch.engine.runtime import cuda_pipeline
from mxbatch.engine.runtime.cuda_pipeline import RING, WARM_UP, CudaPipeline

BATCH, SIDE = 2, 4


class FakeGraph:
    """Replays what the encoder did while it was recorded, on the same memory."""

    recording: FakeGraph | None = None

    def __init__(self) -> None:
        self.images, self.features = torch.empty(0), torch.empty(0)
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        with torch.inference_mode():
            self.features.copy_(features_of(self.images))


def features_of(images: Tensor) -> Tensor:
    return images.float().flatten(1)[:, :3]


class FakeEncoder:
    feature_dim = 3

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, images: Tensor) -> Tensor:
        self.calls += 1
        features = features_of(images).clone()
        if FakeGraph.recording:
            FakeGraph.recording.images, FakeGraph.recording.features = images, features
        return features


@contextmanager
def record(graph: FakeGraph, stream: object) -> Iterator[None]:
    FakeGraph.recording = graph
    yield
    FakeGraph.recording = None


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> FakeEncoder:
    event = SimpleNamespace(synchronize=lambda: None)
    stream = SimpleNamespace(
        record_event=lambda: event,
        wait_event=lambda event: None,
        wait_stream=lambda other: None,
        synchronize=lambda: None,
    )
    cuda = SimpleNamespace(
        device=lambda device: nullcontext(),
        stream=lambda stream: nullcontext(),
        Stream=lambda: stream,
        current_stream=lambda: stream,
        CUDAGraph=FakeGraph,
        graph=record,
    )

    def empty(*shape: Any, pin_memory: bool = False, **options: Any) -> Tensor:
        return torch.empty(*shape, **options)

    fake = SimpleNamespace(
        cuda=cuda, zeros=torch.zeros, empty=empty, empty_like=torch.empty_like, uint8=torch.uint8
    )
    monkeypatch.setattr(cuda_pipeline, "torch", fake)
    return FakeEncoder()


def batch(value: int) -> NDArray[np.uint8]:
    return np.full((BATCH, SIDE, SIDE), value, np.uint8)


def test_the_encoder_is_recorded_once_and_replayed_for_every_batch(encoder: FakeEncoder) -> None:
    pipeline = CudaPipeline(encoder, torch.device("cpu"), BATCH, SIDE)
    for value in range(5):
        assert np.array_equal(pipeline.submit(batch(value))(), np.full((BATCH, 3), value, np.float32))
    assert encoder.calls == WARM_UP + 1


def test_batches_keep_their_features_when_others_take_their_buffers(encoder: FakeEncoder) -> None:
    pipeline = CudaPipeline(encoder, torch.device("cpu"), BATCH, SIDE)
    under_way = []
    for value in range(3 * RING):
        images = batch(value)
        under_way.append(pipeline.submit(images))
        images[:] = 255
    for value in reversed(range(3 * RING)):
        assert set(under_way[value]().flat) == {float(value)}
        assert set(under_way[value]().flat) == {float(value)}
