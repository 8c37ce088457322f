"""What needs a CUDA device: the same promises as on the CPU, and the same calls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import real_archive
import torch

import mxbatch as front_door
from mxbatch.engine.bundle import Bundle
from mxbatch.engine.runtime.golden import golden_images
from mxbatch.engine.runtime.head import FusionHead
from mxbatch.engine.runtime.scorer import open_scorer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_a_picture_gives_the_same_bits_in_every_slot(small_bundle: Bundle) -> None:
    scorer = open_scorer(small_bundle, device="cuda", batch=4)
    images = golden_images(small_bundle.recipe.input.size)
    features = scorer.encode(images)
    for shift in range(1, 4):
        assert np.array_equal(scorer.encode(np.roll(images, shift, axis=0)), np.roll(features, shift, axis=0))


def test_the_head_on_the_gpu_gives_the_probabilities_of_the_cpu_and_the_same_bits_twice(
    small_bundle: Bundle,
) -> None:
    """Through the `calls` kernel; a child stays below its parent."""
    heads = {device: FusionHead(small_bundle, torch.device(device)) for device in ("cpu", "cuda")}
    rng = np.random.default_rng(0)
    features = rng.random((70, heads["cpu"].radiographs, heads["cpu"].feature_dim), np.float32)
    views, mask = rng.integers(0, 3, features.shape[:2]), rng.random(features.shape[:2]) < 0.7
    on_cpu, on_gpu = (heads[device].fuse(features, views, mask) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-4)
    assert np.array_equal(heads["cuda"].fuse(features, views, mask), on_gpu)
    for child, parent in enumerate(small_bundle.taxonomy.parents):
        assert parent < 0 or (on_gpu[:, child] <= on_gpu[:, parent]).all()


def test_a_run_on_the_gpu_makes_the_calls_of_a_run_on_the_cpu(
    small_bundle: Bundle, radiographs: Path, tmp_path: Path
) -> None:
    archive = real_archive.build(tmp_path / "archive", source=radiographs)
    tables = {}
    for device in ("cpu", "cuda"):
        front_door.score(archive, tmp_path / device, model=small_bundle.path, device=device)
        tables[device] = front_door.read_calls(tmp_path / device).to_pandas()
    on_cpu, on_gpu = tables["cpu"], tables["cuda"]
    assert list(on_gpu["call"]) == list(on_cpu["call"])
    for column in (name for name in on_cpu.columns if name.startswith("p_")):
        assert np.allclose(on_gpu[column], on_cpu[column], atol=1e-4), column
