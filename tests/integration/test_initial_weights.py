"""A file of weights is known by its name and what is in it: where it lies may change between two sessions."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from toy_training import TAXONOMY, toy_dataset, toy_recipe, toy_split

from mxbatch.engine.errors import UsageError
from mxbatch.engine.models.hierarchical import HierarchicalModel
from mxbatch.engine.models.recipe import Recipe
from mxbatch.trainer.fit import fit
from mxbatch.trainer.initial_weights import with_named_weights


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(7)
    path = tmp_path / "convnext.pth"
    torch.save(timm.create_model("test_convnext", pretrained=False).state_dict(), path)
    return path


def recipe(file: Path, **training: Any) -> Recipe:
    stages = [{"levels": [1, 2, 3], "epochs": 1}]
    given = {"weights": str(file), "weights_licence": "MIT", "stages": stages, **training}
    table = toy_recipe(**given).as_dict()
    return Recipe.from_dict({**table, "backbone": {"kind": "timm", "name": "test_convnext"}})


def train(run: Path, plan: Recipe) -> HierarchicalModel:
    run.mkdir(exist_ok=True)
    toys = toy_dataset()
    return fit(plan, toys, toy_split(toys), TAXONOMY, run, device="cpu")


def test_a_training_goes_on_where_its_weights_have_moved(file: Path, tmp_path: Path) -> None:
    first = train(tmp_path / "run", recipe(file)).state_dict()
    rows = (tmp_path / "run" / "metrics.csv").read_text()
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.move(file, tmp_path / "elsewhere" / file.name)
    again = train(tmp_path / "run", recipe(Path(moved))).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert (tmp_path / "run" / "metrics.csv").read_text() == rows  # no epoch was done twice


def test_other_weights_in_the_same_place_are_another_training(file: Path, tmp_path: Path) -> None:
    train(tmp_path / "run", recipe(file))
    torch.save(timm.create_model("test_convnext", pretrained=False).state_dict(), file)
    with pytest.raises(UsageError, match="another recipe") as raised:
        train(tmp_path / "run", recipe(file))
    assert raised.value.code == "MX-T005"


def test_the_recipe_in_a_bundle_finds_the_file_where_it_is_now_and_refuses_another(file: Path) -> None:
    stored = with_named_weights(recipe(file)).training
    assert stored["weights"] == file.name
    here = recipe(file, weights_sha256=stored["weights_sha256"])
    assert with_named_weights(here).training == stored
    file.write_bytes(b"another")
    with pytest.raises(UsageError, match="not the recipe's") as raised:
        with_named_weights(here)
    assert raised.value.code == "MX-U007"


def test_a_recipe_without_weights_stays_as_it_is_and_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    assert with_named_weights(toy_recipe()) == toy_recipe()
    with pytest.raises(UsageError, match="the weights cannot be read"):
        with_named_weights(recipe(tmp_path / "nowhere.pth"))
