"""A device that runs out of memory gets smaller batches, and everybody is told. Simulated: no GPU is needed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mxbatch.engine.bundle import Bundle
from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.runtime import scorer
from mxbatch.engine.runtime.encoder import Encoder, EngineSpec
from mxbatch.engine.runtime.golden import golden_images
from mxbatch.engine.runtime.scorer import RUNTIMES, open_scorer, runtime_named
from mxbatch.engine.runtime.speeds import Trial, recall, remember, remember_fitting

EAGER = RUNTIMES["eager"]
SPEC = EngineSpec(device="cpu", precision="float32", batch=16)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A device with memory for 5 radiographs; the batches that were tried on it."""
    tried: list[int] = []

    def load(bundle: Bundle, spec: EngineSpec, folder: Path, threads: int) -> Encoder:
        inner = EAGER.load(bundle, spec, folder, threads)

        class Narrow:
            feature_dim = inner.feature_dim

            def __call__(self, images: Tensor) -> Tensor:
                tried.append(len(images))
                if len(images) > 5:
                    raise torch.OutOfMemoryError("tried to allocate 2 GiB")
                return inner(images)

        return Narrow()

    monkeypatch.setitem(scorer.RUNTIMES, "eager", dataclasses.replace(EAGER, load=load))
    return tried


def test_the_batch_is_halved_until_it_fits(small_bundle: Bundle, room: list[int]) -> None:
    notes: list[str] = []
    opened = open_scorer(small_bundle, batch=16, note=notes.append)
    assert opened.batch == 4
    assert list(dict.fromkeys(room)) == [16, 8, 4]
    assert notes == [
        "cpu has too little memory for 16 radiographs at a time: trying 8",
        "cpu has too little memory for 8 radiographs at a time: trying 4",
    ]
    images = golden_images(small_bundle.recipe.input.size)
    assert np.array_equal(opened.encode(images), open_scorer(small_bundle, batch=4).encode(images))


def test_a_device_without_room_for_one_radiograph_is_a_fault(
    small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(bundle: Bundle, spec: EngineSpec, folder: Path, threads: int) -> Encoder:
        raise torch.OutOfMemoryError("tried to allocate 2 GiB")

    monkeypatch.setitem(scorer.RUNTIMES, "eager", dataclasses.replace(EAGER, load=load))
    with pytest.raises(EnvironmentFault, match="out of memory with a single radiograph") as raised:
        open_scorer(small_bundle, batch=4)
    assert raised.value.code == "MX-M006"


def test_what_fitted_is_remembered_and_what_was_measured_stays(small_bundle: Bundle, tmp_path: Path) -> None:
    eager = runtime_named("eager")
    assert recall(tmp_path, small_bundle, eager, SPEC) is None
    remember_fitting(tmp_path, small_bundle, eager, SPEC, 8)
    assert recall(tmp_path, small_bundle, eager, SPEC) == Trial(runtime="eager", precision="float32", batch=8)
    measured = Trial(runtime="eager", precision="float32", batch=16, rate=9.5)
    remember(tmp_path, small_bundle, eager, SPEC, measured)
    remember_fitting(tmp_path, small_bundle, eager, SPEC, 4)
    assert recall(tmp_path, small_bundle, eager, SPEC) == dataclasses.replace(measured, batch=4)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"runtime": "eager"}', '{"rate": 3, "unknown": 1}'])
def test_a_memory_that_cannot_be_read_is_none(small_bundle: Bundle, tmp_path: Path, content: str) -> None:
    eager = runtime_named("eager")
    remember_fitting(tmp_path, small_bundle, eager, SPEC, 8)
    (path,) = (tmp_path / "speeds").iterdir()
    path.write_text(content)
    assert recall(tmp_path, small_bundle, eager, SPEC) is None
