"""A recipe is taken whole, or refused with the rule that it breaks; it can name no file and no address."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from typing import Any

import pytest
import tomli_w

from mxbatch.engine.errors import UsageError
from mxbatch.engine.models.recipe import Recipe


def test_a_recipe_needs_no_more_than_a_name() -> None:
    recipe = Recipe.from_dict({"name": "plain"})
    assert recipe.views == ("dv", "lv", "skull_dv", "skull_lv", "forepaw", "hind_leg")
    assert (recipe.max_radiographs, recipe.backbone.kind, recipe.input.size) == (8, "timm", 224)


def test_the_way_through_toml_changes_nothing() -> None:
    recipe = Recipe.from_dict(
        {
            "name": "full",
            "views": ["lv", "oblique"],
            "max_radiographs": 3,
            "backbone": {"kind": "cae", "name": "tiny", "widths": [8, 16], "latent": 4},
            "head": {"width": 8, "dropout": 0},
            "input": {"size": 64, "window": [1, 99]},
            "training": {"epochs": 3, "schedule": {"warm_up": 0.1}, "weights": [1.0, 2.0]},
        }
    )
    assert Recipe.from_dict(tomllib.loads(tomli_w.dumps(recipe.as_dict()))).as_dict() == recipe.as_dict()


def test_view_indices_start_at_one_and_zero_is_any_view_unknown_to_the_recipe() -> None:
    recipe = Recipe.from_dict({"name": "two", "views": ["oblique", "dv"]})
    assert [recipe.view_index(view) for view in ("oblique", "dv", "lv", "unknown", None)] == [1, 2, 0, 0, 0]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "lacks the key 'name'"),
        ({"name": ""}, "needs a name"),
        ({"name": "x", "epochs": 3}, "unknown key 'epochs'; known are name, views"),
        ({"name": "x", "views": []}, "needs one at least"),
        ({"name": "x", "views": "dv"}, "is not a list, each item a string"),
        ({"name": "x", "views": ["dv", "dv"]}, "named twice"),
        ({"name": "x", "views": ["unknown"]}, "'unknown' is no view's name"),
        ({"name": "x", "views": ["Whole body"]}, "is no view's name"),
        ({"name": "x", "max_radiographs": 0}, "1 is the least"),
        ({"name": "x", "max_radiographs": True}, "is not a whole number"),
        ({"name": "x", "backbone": "convnext"}, "backbone is not a table"),
        ({"name": "x", "backbone": {"kind": "torchvision"}}, "none of timm, cae"),
        (
            {"name": "x", "backbone": {"kind": "cae", "depth": 3}},
            "takes no setting 'depth'; it takes widths, latent",
        ),
        ({"name": "x", "backbone": {"conv_mlp": {"a": 1}}}, "neither a plain value nor a list"),
        ({"name": "x", "head": {"width": 0}}, "1 is the least"),
        ({"name": "x", "head": {"dropout": 1.0}}, "is not in [0, 1)"),
        ({"name": "x", "head": {"layers": 1}}, "unknown key 'layers'"),
        ({"name": "x", "input": {"size": 0}}, "size"),
        ({"name": "x", "training": 3}, "is not a table"),
    ],
)
def test_a_broken_rule_is_named(table: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)) as raised:
        Recipe.from_dict(table)
    assert raised.value.code == "MX-U007"


@pytest.mark.parametrize(
    "setting", ["checkpoint_path", "pretrained", "pretrained_cfg", "cache_dir", "num_classes"]
)
def test_a_recipe_from_elsewhere_cannot_make_timm_load_anything(setting: str) -> None:
    with pytest.raises(UsageError, match=f"takes no setting '{setting}'"):
        Recipe.from_dict({"name": "x", "backbone": {"name": "convnext_atto", setting: "x"}})


@pytest.mark.parametrize("name", ["hf-hub:someone/model", "local-dir:/tmp", "../convnext"])
def test_a_recipe_from_elsewhere_can_name_no_place(name: str) -> None:
    with pytest.raises(UsageError, match="no name of an architecture"):
        Recipe.from_dict({"name": "x", "backbone": {"name": name}})


def test_reading_bundles_and_recipes_loads_no_torch() -> None:
    code = (
        "import sys, mxbatch.engine.bundle, mxbatch.engine.runtime.scorer; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
