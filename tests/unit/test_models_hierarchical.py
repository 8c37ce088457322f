"""The head does what a specimen needs: any subset of views, in any order, and no look at what is masked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mxbatch.engine.errors import UsageError
from mxbatch.engine.models.hierarchical import HierarchicalModel, ViewNorm, build_model
from mxbatch.engine.models.recipe import Head, Recipe
from mxbatch.engine.taxonomy import read_taxonomy

TAXONOMY = read_taxonomy()
N, T, K = 3, 5, len(TAXONOMY.nodes)


def recipe(**backbone: Any) -> Recipe:
    return Recipe.from_dict(
        {
            "name": "test",
            "max_radiographs": T,
            "backbone": backbone or {"kind": "cae", "name": "tiny", "widths": [4, 8], "latent": 8},
            "head": {"width": 16},
            "input": {"size": 32},
        }
    )


@pytest.fixture(scope="module")
def model() -> HierarchicalModel:
    return build_model(recipe(), TAXONOMY, seed=0).eval()


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def specimens(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Features `[N, T, D]`, view ids and a mask under which each specimen has one radiograph at least."""
    random = torch.Generator().manual_seed(seed)
    mask = torch.rand(N, T, generator=random) < 0.6
    mask[:, 0] = True
    return torch.randn(N, T, 8, generator=random), torch.randint(0, 7, (N, T), generator=random), mask


def test_the_shapes_are_those_of_the_contract(model: HierarchicalModel) -> None:
    images = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    features = model.encoder(images)
    assert (features.shape, features.dtype) == ((2, model.feature_dim), torch.float32)
    logits = model.head(*specimens())
    assert (logits.shape, logits.dtype) == ((N, K), torch.float32)


@given(st.integers(0, 2**16))
def test_the_order_of_the_radiographs_does_not_matter(model: HierarchicalModel, seed: int) -> None:
    features, views, mask = specimens(seed)
    order = torch.randperm(T, generator=torch.Generator().manual_seed(seed))
    shuffled = model.head(features[:, order], views[:, order], mask[:, order])
    torch.testing.assert_close(shuffled, model.head(features, views, mask), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("junk", [float("nan"), float("inf"), 1e30])
def test_masked_radiographs_change_not_one_bit(model: HierarchicalModel, junk: float) -> None:
    features, views, mask = specimens()
    clean = model.head(features, views, mask)
    spoiled = model.head(features.masked_fill(~mask[..., None], junk), views.masked_fill(~mask, 10**9), mask)
    assert torch.equal(clean, spoiled)


def test_a_specimen_without_any_radiograph_still_has_finite_numbers(model: HierarchicalModel) -> None:
    features, views, mask = specimens()
    assert model.head(features, views, torch.zeros_like(mask)).isfinite().all()


def test_features_views_and_the_number_of_radiographs_all_count(model: HierarchicalModel) -> None:
    features, views, mask = specimens()
    plain = model.head(features, views, mask)
    fewer = mask & (torch.arange(T) == 0)
    for other in (
        model.head(features + torch.randn(8), views, mask),
        model.head(features, (views + 1) % 7, mask),
        model.head(features, views, fewer),
    ):
        assert not torch.allclose(plain, other, atol=1e-4)


def test_each_level_builds_on_the_one_above(model: HierarchicalModel) -> None:
    features, views, mask = specimens()
    before = model.head(features, views, mask)
    hook = model.head.levels[1].refine.register_forward_hook(lambda _, __, output: output + 1)
    after = model.head(features, views, mask)
    hook.remove()
    assert torch.equal(before[:, :1], after[:, :1])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_what_people_were_asked_is_learned_before_the_first_level_and_answered_in_training_alone() -> None:
    asked = build_model(replace(recipe(), head=Head(width=16, questions=True)), TAXONOMY, seed=0).eval()
    given = specimens()
    logits, questions = asked.head.answer(*given)
    assert questions is not None
    assert questions.shape == (N, len(TAXONOMY.questions))
    assert torch.equal(asked.head(*given), logits)
    assert asked.head.questions is not None
    hook = asked.head.questions.refine.register_forward_hook(lambda _, __, output: output + 1)
    after = asked.head(*given)
    hook.remove()
    assert not torch.allclose(after[:, :1], logits[:, :1])


def test_without_questions_there_is_no_layer_for_them(model: HierarchicalModel) -> None:
    assert model.head.questions is None
    assert model.head.answer(*specimens())[1] is None


def test_a_seed_fixes_the_weights_and_leaves_the_random_state_alone() -> None:
    state = torch.get_rng_state()
    one, same, other = (build_model(recipe(), TAXONOMY, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_training_on_a_batch_encodes_only_the_radiographs_that_are_there(model: HierarchicalModel) -> None:
    _, views, mask = specimens()
    images = torch.randint(0, 256, (N, T, 1, 32, 32), dtype=torch.uint8)
    features = torch.zeros(N, T, model.feature_dim)
    features[mask] = model.encoder(images[mask])
    torch.testing.assert_close(model(images, views, mask), model.head(features, views, mask))


def test_the_autoencoder_gives_back_a_picture_of_the_same_size(model: HierarchicalModel) -> None:
    picture = torch.rand(2, 1, 45, 45)
    assert model.encoder.backbone.reconstruct(picture).shape == picture.shape


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("convnext_atto", {"conv_mlp": False}),
        ("mobilenetv3_small_050", {}),
        ("vit_tiny_patch16_224", {"img_size": 32}),
    ],
)
def test_timm_families_know_their_number_of_features(name: str, settings: dict[str, Any]) -> None:
    built = build_model(recipe(name=name, **settings), TAXONOMY, seed=0).eval()
    assert built.encoder(torch.zeros(1, 1, 32, 32, dtype=torch.uint8)).shape == (1, built.feature_dim)


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        ({"name": "convnext_atoo"}, "near it are .*convnext_atto"),
        ({"name": "resnet18", "conv_mlp": True}, "cannot be built"),
        ({"kind": "cae", "widths": []}, "cannot be built"),
    ],
)
def test_a_backbone_that_cannot_be_built_is_refused(backbone: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        build_model(recipe(**backbone), TAXONOMY)
    assert raised.value.code == "MX-U007"


def test_features_are_normed_within_their_view() -> None:
    """Two views far apart: what is left is how each radiograph differs from others of its view."""
    norm = ViewNorm(3, 4)
    views = torch.tensor([1] * 20 + [2] * 20)
    features = torch.randn(40, 4, generator=torch.Generator().manual_seed(0)) + 100.0 * views[:, None]
    normed = norm(features, views)
    for view in (1, 2):
        of_view = normed[views == view]
        torch.testing.assert_close(of_view.mean(dim=0), torch.zeros(4), atol=1e-4, rtol=0)
        torch.testing.assert_close(of_view.var(dim=0, unbiased=False), torch.ones(4), atol=1e-3, rtol=0)


def test_a_view_with_few_radiographs_in_a_step_is_normed_by_what_is_known_of_it() -> None:
    norm = ViewNorm(2, 4)
    features = torch.randn(3, 4)
    torch.testing.assert_close(
        norm(features, torch.ones(3, dtype=torch.int64)), features, rtol=1e-4, atol=1e-4
    )
    assert torch.equal(norm.mean_VD, torch.zeros(2, 4))


def test_when_scoring_a_radiograph_is_normed_whatever_lies_beside_it() -> None:
    norm = ViewNorm(2, 4)
    for _ in range(50):
        norm(3 + 2 * torch.randn(16, 4), torch.ones(16, dtype=torch.int64))
    norm.eval()
    features, views = torch.randn(8, 4), torch.ones(8, dtype=torch.int64)
    together = norm(features, views)
    for n in range(8):
        assert torch.equal(norm(features[n : n + 1], views[n : n + 1])[0], together[n])
    assert norm(torch.full((1, 4), 3.0), views[:1]).abs().max() < 1
