"""The way to a GPU and back: whatever is under way, every batch keeps its own numbers, and runtimes agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mxbatch.engine.bundle import Bundle
from mxbatch.engine.runtime.cuda_pipeline import RING
from mxbatch.engine.runtime.golden import TOLERANCES, golden_images
from mxbatch.engine.runtime.scorer import RUNTIMES, Scorer, open_scorer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
BATCH = 4


def pictures(bundle: Bundle, seed: int) -> NDArray[np.uint8]:
    return golden_images(bundle.recipe.input.size, seed)


@pytest.fixture(scope="module")
def plain(small_bundle: Bundle) -> Scorer:
    return open_scorer(small_bundle, device="cuda", batch=BATCH)


def test_more_batches_than_the_ring_holds_keep_their_numbers_in_any_order(
    plain: Scorer, small_bundle: Bundle
) -> None:
    batches = [pictures(small_bundle, seed) for seed in range(3 * RING)]
    alone = [plain.encode(images) for images in batches]
    under_way = []
    for images in batches:
        given = images.copy()
        under_way.append(plain.submit(given))
        given[:] = 0  # the caller may use its memory again at once
    for n in reversed(range(len(batches))):
        assert np.array_equal(under_way[n](), alone[n])
        assert np.array_equal(under_way[n](), alone[n])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_that_works_here_agrees_with_the_cpu(
    runtime: str, small_bundle: Bundle, tmp_path: Path
) -> None:
    if why := RUNTIMES[runtime].usable("cuda:0"):
        pytest.skip(why)
    images = pictures(small_bundle, 0)
    expected = open_scorer(small_bundle, batch=BATCH).encode(images)
    opened = open_scorer(
        small_bundle, runtime=runtime, precision="float32", device="cuda:0", batch=BATCH, engines=tmp_path
    )
    features = opened.encode(images)
    allowed = TOLERANCES["float32"].features * np.abs(expected).max()
    assert np.abs(features - expected).max() <= allowed
    for shift in range(1, BATCH):
        assert np.array_equal(opened.encode(np.roll(images, shift, axis=0)), np.roll(features, shift, axis=0))


def test_too_large_a_batch_is_halved_until_the_gpu_holds_it(small_bundle: Bundle) -> None:
    side = small_bundle.recipe.input.size
    free, _ = torch.cuda.mem_get_info()
    notes: list[str] = []
    too_many = 2 * free // side**2
    opened = open_scorer(small_bundle, device="cuda", batch=too_many, note=notes.append)
    assert opened.batch < too_many
    assert all("too little memory" in note for note in notes)
    assert len(notes) >= 1
