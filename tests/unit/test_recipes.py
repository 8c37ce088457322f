"""The recipes that come with mxbatch can be built and trained; another is found by name or as a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from mxbatch.engine.errors import UsageError
from mxbatch.engine.models.recipe import Recipe
from mxbatch.engine.taxonomy import LEVELS
from mxbatch.trainer.recipes import find_recipe, list_recipes, overlay
from mxbatch.trainer.training import training_of

ENTRIES = list_recipes()
FAMILIES = ("convnext", "cae")


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_shipped_recipe_is_named_as_its_file_and_says_what_it_is(entry: object) -> None:
    assert find_recipe(entry.name) == entry.recipe  # type: ignore[attr-defined]
    assert entry.recipe.name == entry.name  # type: ignore[attr-defined]
    assert 20 < len(entry.summary) < 140  # type: ignore[attr-defined]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_way_through_a_bundle_changes_nothing(entry: object) -> None:
    assert Recipe.from_dict(entry.recipe.as_dict()) == entry.recipe  # type: ignore[attr-defined]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("view", ["dv", "lv", "mv"])
def test_both_families_come_for_each_view_hierarchical_and_direct(family: str, view: str) -> None:
    hierarchical, direct = find_recipe(f"{family}_{view}"), find_recipe(f"{family}_direct_{view}")
    assert (hierarchical.head.kind, direct.head.kind) == ("hierarchical", "direct")
    assert hierarchical.backbone == direct.backbone == find_recipe(f"{family}_mv").backbone
    assert hierarchical.input == direct.input
    assert hierarchical.views == direct.views
    assert len(hierarchical.views) > 1 if view == "mv" else hierarchical.views == (view,)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_direct_recipe_is_trained_as_long_as_the_hierarchical_one(family: str) -> None:
    stages = [training_of(find_recipe(f"{family}{kind}_mv")).stages for kind in ("", "_direct")]
    hierarchical, direct = (sum(stage.epochs for stage in each) for each in stages)
    assert hierarchical == direct
    assert stages[1][0].levels == LEVELS


def test_larger_recipes_come_for_gpus() -> None:
    sizes = {entry.name: (entry.recipe.backbone.name, entry.recipe.input.size) for entry in ENTRIES}
    assert sizes["convnext_tiny_384_mv"] == ("convnext_tiny", 384)
    assert sizes["convnext_tiny_512_mv"] == ("convnext_tiny", 512)
    assert sizes["convnext_base_384_mv"] == ("convnext_base", 384)
    assert sizes["efficientnetv2_s_384_mv"] == ("efficientnetv2_s", 384)


def test_what_a_recipe_says_takes_the_place_of_what_its_base_says() -> None:
    base = {"views": ["dv"], "head": {"width": 8, "dropout": 0.1}, "input": {"size": 64}}
    over = {"views": ["lv"], "head": {"width": 16}}
    assert overlay(base, over) == {
        "views": ["lv"],
        "head": {"width": 16, "dropout": 0.1},
        "input": {"size": 64},
    }


def test_a_recipe_of_ones_own_may_build_on_a_shipped_one(tmp_path: Path) -> None:
    path = tmp_path / "ours.toml"
    path.write_text('base = "cae_mv"\n[head]\nwidth = 32\n')
    recipe, base = find_recipe(path), find_recipe("cae_mv")
    assert (recipe.name, recipe.head.width) == ("ours", 32)
    assert (recipe.backbone, recipe.training) == (base.backbone, base.training)


def test_a_base_may_lie_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "plain.toml").write_text('views = ["lv"]\n')
    (tmp_path / "wide.toml").write_text('base = "plain.toml"\nname = "wider"\n[head]\nwidth = 64\n')
    recipe = find_recipe(tmp_path / "wide.toml")
    assert (recipe.name, recipe.views, recipe.head.width) == ("wider", ("lv",), 64)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'base = "cae_dv"', "has a base itself"),
        (b'base = "nowhere"', "there is no recipe or file 'nowhere'"),
        (b"base = 3", "no name of a recipe"),
        (b"name = ", "Invalid value"),
        (b'name = "M\xe4use"', "can't decode byte 0xe4"),
        (b'views = ["dv", "dv"]', "one is named twice"),
        (b"[head]\nwidth = 0", "head: width is 0"),
        (b"[training]\nepochs = 3", "unknown key 'epochs'"),
    ],
)
def test_a_broken_recipe_is_refused_with_its_file(text: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "ours.toml"
    path.write_bytes(text)
    with pytest.raises(UsageError, match=words) as raised:
        find_recipe(path)
    assert raised.value.code == "MX-U007"
    assert str(path) in str(raised.value)


def test_a_mistyped_name_is_answered_with_near_ones() -> None:
    with pytest.raises(UsageError, match="there is convnext_mv"):
        find_recipe("convnet_mv")


def test_a_file_that_is_not_there_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no recipe or file '.*gone\.toml'") as raised:
        find_recipe(tmp_path / "gone.toml")
    assert raised.value.code == "MX-U007"
