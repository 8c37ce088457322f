"""Fewer digits: near the reference on every picture, the same bits in every slot, and named in the calls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mxbatch.bench import runtimes as bench
from mxbatch.bench.runtimes import contenders, markdown, parity
from mxbatch.engine.bundle import Bundle, write_bundle
from mxbatch.engine.drawing import draw_radiograph
from mxbatch.engine.errors import EnvironmentFault, UsageError
from mxbatch.engine.file_formats import FILE_FORMATS
from mxbatch.engine.machine import has_bfloat16
from mxbatch.engine.models.hierarchical import build_model
from mxbatch.engine.models.recipe import Recipe
from mxbatch.engine.runtime.golden import golden_images
from mxbatch.engine.runtime.scorer import open_scorer
from mxbatch.engine.taxonomy import read_taxonomy

BATCH, SIZE = 4, 64
BACKBONES = {
    "convnext": {"name": "convnext_atto", "conv_mlp": False},
    "cae": {"kind": "cae", "name": "tiny", "widths": [8, 16]},
}
needs_bfloat16 = pytest.mark.skipif(not has_bfloat16(), reason="this processor has no bfloat16")


@pytest.fixture(scope="module", params=BACKBONES)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Random weights without the untrained example's calibration, which makes every difference huge."""
    recipe = Recipe.from_dict(
        {
            "name": "test",
            "backbone": BACKBONES[request.param],
            "head": {"width": 32},
            "input": {"size": SIZE},
        }
    )
    model = build_model(recipe, read_taxonomy(), seed=0)
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    return write_bundle(folder, model, recipe=recipe, taxonomy=read_taxonomy(), learned_from="nothing")


@needs_bfloat16
def test_bfloat16_gives_a_picture_the_same_bits_in_every_slot_and_beside_any_neighbours(
    bundle: Bundle,
) -> None:
    scorer = open_scorer(bundle, precision="bfloat16", batch=BATCH)
    images = golden_images(SIZE, 7)
    features = scorer.encode(images)
    for shift in range(1, BATCH):
        assert np.array_equal(scorer.encode(np.roll(images, shift, axis=0)), np.roll(features, shift, axis=0))
        company = np.full_like(images, 255)
        company[shift] = images[shift]
        assert np.array_equal(scorer.encode(company)[shift], features[shift])


@needs_bfloat16
def test_what_computed_is_named(bundle: Bundle) -> None:
    assert open_scorer(bundle, batch=1).name == "eager-float32"
    assert open_scorer(bundle, batch=1, precision="bfloat16").name == "eager-bfloat16"


@pytest.mark.parametrize(
    ("precision", "words"),
    [("int4", "there is no precision 'int4'"), ("float16", "does not compute in float16")],
)
def test_an_impossible_precision_is_answered_with_the_possible_ones(
    bundle: Bundle, precision: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        open_scorer(bundle, precision=precision, batch=1)
    assert raised.value.code == "MX-U001"
    assert "float32" in str(raised.value)


@needs_bfloat16
def test_a_precision_that_training_found_too_coarse_for_the_model_is_refused(bundle: Bundle) -> None:
    coarse = replace(bundle, info={**bundle.info, "metrics": {"bfloat16_difference": 0.03}})
    with pytest.raises(EnvironmentFault, match=r"off by up to 0\.03 in training") as raised:
        open_scorer(coarse, precision="bfloat16", batch=1)
    assert raised.value.code == "MX-M003"
    assert open_scorer(coarse, precision="float32", batch=1).precision == "float32"


def test_every_runtime_that_needs_no_compiler_is_near_plain_torch(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = FILE_FORMATS["png"]
    for n in range(6):
        (tmp_path / f"{n}.png").write_bytes(encode(draw_radiograph("dv", seed=n, height=90, width=70)))
    keys, not_run = contenders("cpu")
    quick = [key for key in keys if key[0] != "inductor"]
    monkeypatch.setattr(bench, "contenders", lambda device: (quick, not_run))
    result = parity([bundle], tmp_path, device="cpu", batch=BATCH)
    found = {(row["runtime"], row["precision"]): row for row in result["rows"]}
    assert set(found) == set(quick)
    assert found["eager", "float32"]["largest_difference"] == 0
    for (_, precision), row in found.items():
        assert row["largest_difference"] <= (1e-4 if precision == "float32" else 0.02)
        assert (row["calls_changed"], row["specimens"]) == (0, 6)
    assert f"| {bundle.model_id} | eager float32 | 0 | 0 of 6 |" in markdown(result)
