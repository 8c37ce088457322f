"""The kernels natively: the promises of tests/kernel_parity.py, and a measured answer to "is it faster?"."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from kernel_parity import *  # noqa: F403  # its tests and their fixture

from mxbatch.engine.bundle import write_untrained
from mxbatch.engine.models.recipe import Recipe
from mxbatch.engine.runtime import inductor
from mxbatch.engine.runtime.fused import RECORD
from mxbatch.engine.runtime.scorer import open_scorer
from mxbatch.kernels.dwnorm import Race, race

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_race_times_both_sides(dtype: torch.dtype) -> None:
    found = race((4, 96, 28, 28), dtype, torch.device("cuda"), rounds=3)
    assert found.fused_ms > 0
    assert found.torch_ms > 0


@pytest.mark.skipif(bool(inductor.RUNTIME.usable("cuda:0")), reason="inductor cannot be used here")
@pytest.mark.parametrize("won", [True, False], ids=["with the kernel", "without"])
def test_an_engine_is_built_as_the_race_was_decided_and_passes_the_golden_check(
    won: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32, where the golden check allows least."""
    monkeypatch.setattr(Race, "won", property(lambda self: won))
    recipe = Recipe.from_dict(
        {
            "name": "test",
            "max_radiographs": 4,
            "backbone": {"name": "convnext_atto"},
            "head": {"width": 32},
            "input": {"size": 64},
        }
    )
    bundle = write_untrained(tmp_path / "bundle", recipe=recipe)
    engines, notes = tmp_path / "engines", list[str]()
    open_scorer(
        bundle,
        runtime="inductor",
        precision="float32",
        device="cuda:0",
        batch=4,
        engines=engines,
        note=notes.append,
    )
    assert any(note.startswith("the kernel dwnorm is used for") for note in notes)
    (record,) = engines.glob(f"*/{RECORD}")
    assert {race["used"] for race in json.loads(record.read_text())} == {won}
