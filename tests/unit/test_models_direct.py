"""The direct head, the flat baseline: one layer for all nodes, and still no child above its parent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_training import SIDE, TAXONOMY, toy_recipe

from mxbatch.engine.bundle import write_bundle
from mxbatch.engine.errors import UsageError
from mxbatch.engine.models.hierarchical import build_model
from mxbatch.engine.models.pooling import PLACE_CHANNELS
from mxbatch.engine.models.recipe import Recipe
from mxbatch.engine.runtime.golden import golden_images
from mxbatch.engine.runtime.scorer import open_scorer
from mxbatch.kernels.tree import probabilities

K = len(TAXONOMY.nodes)
HEADS = ("hierarchical", "direct")


def test_a_recipe_that_names_no_kind_stays_hierarchical() -> None:
    assert Recipe.from_dict({"name": "x"}).head.conditional
    assert not toy_recipe("direct").head.conditional
    with pytest.raises(UsageError, match="'flat' is none of hierarchical, direct"):
        toy_recipe("flat")


def test_a_direct_head_has_one_layer_that_asks_for_every_node() -> None:
    direct, hierarchical = (
        build_model(toy_recipe(kind), TAXONOMY, seed=0) for kind in ("direct", "hierarchical")
    )
    assert [layer.ask.out_features for layer in direct.head.levels] == [K]
    assert [layer.ask.out_features for layer in hierarchical.head.levels] == [1, 3, 10]


@pytest.mark.parametrize("kind", HEADS)
@settings(max_examples=25)
@given(seed=st.integers(0, 2**16), size=st.floats(0.1, 1e4))
def test_no_weights_make_a_child_more_probable_than_its_parent(kind: str, seed: int, size: float) -> None:
    model = build_model(toy_recipe(kind), TAXONOMY, seed=seed).eval()
    random = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        for parameter in model.parameters():
            parameter.copy_(size * torch.randn(parameter.shape, generator=random))
        images = torch.randint(0, 256, (3, 2, 1, SIDE, SIDE), generator=random, dtype=torch.uint8)
        views, mask = torch.tensor([[1, 2]] * 3), torch.tensor([[True, True], [True, False], [False, False]])
        logits = model(images, views, mask).nan_to_num()
    conditional = toy_recipe(kind).head.conditional
    p = probabilities(logits, TAXONOMY.parents, torch.ones(K), torch.zeros(K), conditional=conditional)
    for child, parent in enumerate(TAXONOMY.parents):
        assert parent < 0 or (p[:, child] <= p[:, parent]).all()


def test_a_direct_bundle_scores_minima_along_the_path(tmp_path: Path) -> None:
    recipe = toy_recipe("direct")
    model = build_model(recipe, TAXONOMY, seed=0).eval()
    bundle = write_bundle(tmp_path / "bundle", model, recipe=recipe, taxonomy=TAXONOMY)
    scorer = open_scorer(bundle, runtime="eager", batch=4)
    features = scorer.encode(golden_images(SIDE))[None, :3]
    views, mask = np.array([[1, 2, 3]]), np.ones((1, 3), bool)
    with torch.inference_mode():
        own = torch.sigmoid(model.head(*map(torch.from_numpy, (features, views, mask))))[0].tolist()
    expected = []
    for node, parent in enumerate(TAXONOMY.parents):
        expected.append(own[node] if parent < 0 else min(own[node], expected[parent]))
    np.testing.assert_allclose(scorer.fuse(features, views, mask)[0], expected, rtol=1e-5)


def pooled(**settings: object) -> Recipe:
    table = toy_recipe().as_dict()
    return Recipe.from_dict({**table, "backbone": {**table["backbone"], **settings}})


@pytest.mark.parametrize("pool", ["mean", "mean_peak", "places"])
def test_an_autoencoders_features_are_pooled_as_the_recipe_says(pool: str) -> None:
    model = build_model(pooled(pool=pool, grid=4), TAXONOMY, seed=0).eval()
    images = torch.from_numpy(golden_images(SIDE))[:, None]
    with torch.inference_mode():
        code = model.encoder.backbone.encoder(model.encoder.normalise(images))
        features = model.encoder(images)
    assert model.feature_dim == features.shape[1]
    torch.testing.assert_close(features[:, :8], code.mean((2, 3)))
    if pool != "mean":
        torch.testing.assert_close(features[:, 8:16], code.amax((2, 3)))
    assert features.shape[1] == {"mean": 8, "mean_peak": 16, "places": 16 + PLACE_CHANNELS * 16}[pool]


@pytest.mark.parametrize("kind", ["cae", "timm"])
def test_places_tell_where_something_is_and_a_mean_does_not(kind: str) -> None:
    """The same mark in two corners of a picture."""
    timm = {"kind": "timm", "name": "convnext_atto", "depths": [1] * 4, "dims": [8] * 4}
    table = toy_recipe().as_dict()
    backbone = {**(table["backbone"] if kind == "cae" else timm), "pool": "places", "grid": 4}
    model = build_model(Recipe.from_dict({**table, "backbone": backbone}), TAXONOMY, seed=0).eval()
    side = SIDE if kind == "cae" else 128
    images = torch.zeros(2, 1, side, side, dtype=torch.uint8)
    images[0, :, 4:8, 4:8] = images[1, :, 4 + side // 2 : 8 + side // 2, 4 + side // 2 : 8 + side // 2] = 255
    with torch.inference_mode():
        features = model.encoder(images)
    places = features[:, -PLACE_CHANNELS * 16 :].unflatten(1, (PLACE_CHANNELS, 4, 4))
    assert not torch.allclose(places[0], places[1])
    torch.testing.assert_close(places[0, :, :2, :2], places[1, :, 2:, 2:], rtol=0.2, atol=0.2)


def test_a_grid_that_does_not_divide_the_map_is_refused_with_its_numbers() -> None:
    model = build_model(pooled(pool="places", grid=3), TAXONOMY, seed=0).eval()
    with pytest.raises(ValueError, match="has no grid of 3 x 3 places"):
        model.encoder(torch.zeros(1, 1, SIDE, SIDE, dtype=torch.uint8))


def test_an_unknown_pool_is_refused() -> None:
    table = toy_recipe().as_dict()
    recipe = Recipe.from_dict({**table, "backbone": {**table["backbone"], "pool": "median"}})
    with pytest.raises(UsageError, match="'median' is none of mean, mean_peak, places"):
        build_model(recipe, TAXONOMY)
