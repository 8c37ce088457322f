"""A bundle says what it is, proves that it is whole, and is written whole or not at all."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import torch

from mxbatch.engine.bundle import (
    Bundle,
    Calibration,
    identify,
    load_model,
    read_bundle,
    write_bundle,
    write_untrained,
)
from mxbatch.engine.bundle_files import CONTENT
from mxbatch.engine.calls import Thresholds
from mxbatch.engine.errors import EnvironmentFault, MxbatchError, UsageError
from mxbatch.engine.model_card import model_card
from mxbatch.engine.models.hierarchical import build_model
from mxbatch.engine.models.recipe import Recipe
from mxbatch.engine.provenance import LEARNED_FROM
from mxbatch.engine.taxonomy import read_taxonomy

TAXONOMY = read_taxonomy()
RECIPE = Recipe.from_dict(
    {
        "name": "test",
        "views": ["dv", "lv"],
        "max_radiographs": 3,
        "backbone": {"kind": "cae", "name": "tiny", "widths": [4, 8], "latent": 8},
        "head": {"width": 16},
        "input": {"size": 32},
        "training": {"epochs": 3},
    }
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_untrained(tmp_path_factory.mktemp("bundles") / "whole", recipe=RECIPE)


@pytest.fixture
def copied(whole: Bundle, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(whole.path, tmp_path / "copy"))


def sign(path: Path) -> None:
    """Make SHA256SUMS match whatever the files now hold."""
    lines = [f"{hashlib.sha256((path / name).read_bytes()).hexdigest()}  {name}\n" for name in CONTENT]
    (path / "SHA256SUMS").write_text("".join(lines))


def edit(path: Path, before: str, after: str) -> None:
    text = (path / "bundle.toml").read_text()
    assert before in text
    (path / "bundle.toml").write_text(text.replace(before, after, 1))
    sign(path)


def refusal(path: Path) -> MxbatchError:
    with pytest.raises(MxbatchError) as raised:
        read_bundle(path)
    assert str(path) in str(raised.value)
    return raised.value


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    model = build_model(RECIPE, TAXONOMY, seed=1)
    thresholds = Thresholds.uniform(TAXONOMY, normal_below=0.25, abnormal_from=0.75)
    count = len(TAXONOMY.nodes)
    calibration = Calibration(scale=(1.5,) * count, bias=(-0.1,) * count)
    written = write_bundle(
        tmp_path / "deep" / "bundle",
        model,
        recipe=RECIPE,
        taxonomy=TAXONOMY,
        thresholds=thresholds,
        calibration=calibration,
        training={"specimens": 7},
        metrics={"auc": 0.5},
        licence="CC-BY-4.0",
    )
    read = read_bundle(tmp_path / "deep" / "bundle")
    assert read == written
    assert (read.recipe, read.taxonomy, read.learned_from) == (RECIPE, TAXONOMY, "radiographs")
    assert (read.thresholds, read.calibration) == (thresholds, calibration)
    assert (read.info["training"], read.info["metrics"]) == ({"specimens": 7}, {"auc": 0.5})
    assert read.info["licence"] == "CC-BY-4.0"
    loaded = load_model(read)
    assert not loaded.training
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert model.training  # as it was given


def test_a_bundle_holds_five_plain_files_that_sha256sum_accepts(whole: Bundle) -> None:
    assert {entry.name for entry in whole.path.iterdir()} == {*CONTENT, "SHA256SUMS"}
    subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=whole.path, check=True, capture_output=True
    )


@pytest.mark.parametrize(
    ("learned_from", "prefix"), [("nothing", "untrained-"), ("phantoms", "phantom-"), ("radiographs", "")]
)
def test_a_bundle_says_wherever_one_looks_what_it_has_learned_from(
    learned_from: str, prefix: str, whole: Bundle, tmp_path: Path
) -> None:
    bundle = write_bundle(
        tmp_path / "b", load_model(whole), recipe=RECIPE, taxonomy=TAXONOMY, learned_from=learned_from
    )
    assert bundle.learned_from == learned_from
    assert bundle.model_id.startswith(f"{prefix}tiny-mv-")
    warning = LEARNED_FROM[learned_from].warning
    for name in ("bundle.toml", "MODEL_CARD.md"):
        assert warning in (bundle.path / name).read_text()


def test_a_seed_fixes_the_model_id(whole: Bundle, tmp_path: Path) -> None:
    assert write_untrained(tmp_path / "same", recipe=RECIPE).model_id == whole.model_id
    assert write_untrained(tmp_path / "other", recipe=RECIPE, seed=1).model_id != whole.model_id


def test_the_id_depends_on_everything_that_decides_what_the_model_says() -> None:
    plain = {
        "recipe": RECIPE,
        "taxonomy": TAXONOMY,
        "thresholds": Thresholds.uniform(TAXONOMY),
        "calibration": Calibration.identity(TAXONOMY),
        "learned_from": "radiographs",
        "weights_sha256": "0" * 64,
    }
    count = len(TAXONOMY.nodes)
    changes = [
        {"recipe": Recipe.from_dict({**RECIPE.as_dict(), "input": {"size": 48}})},
        {"taxonomy": read_taxonomy().from_dict({**TAXONOMY.as_dict(), "version": 2})},
        {"thresholds": Thresholds.uniform(TAXONOMY, abnormal_from=0.61)},
        {"calibration": Calibration(scale=(2.0,) * count, bias=(0.0,) * count)},
        {"weights_sha256": "1" * 64},
        {"learned_from": "nothing"},
    ]
    ids = {identify(**(plain | change)) for change in [{}, *changes]}
    assert len(ids) == len(changes) + 1
    assert identify(**plain) == identify(**plain)


def test_no_bundle_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere").code == "MX-U004"
    assert refusal(tmp_path).code == "MX-U004"


@pytest.mark.parametrize("name", CONTENT)
def test_a_changed_file_is_damage(name: str, copied: Path) -> None:
    content = (copied / name).read_bytes()
    (copied / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert refusal(copied).code in ({"MX-M001", "MX-M002"} if name == "bundle.toml" else {"MX-M001"})


@pytest.mark.parametrize("name", [*CONTENT, "SHA256SUMS"])
def test_a_missing_file_is_incompleteness(name: str, copied: Path) -> None:
    (copied / name).unlink()
    assert refusal(copied).code == "MX-M002"


def test_a_file_that_the_checksums_do_not_name_is_incompleteness(copied: Path) -> None:
    (copied / "SHA256SUMS").write_text("")
    assert "does not name bundle.toml" in refusal(copied).what


def test_an_edit_under_fresh_checksums_is_still_noticed(copied: Path) -> None:
    edit(copied, 'learned_from = "nothing"', 'learned_from = "radiographs"')
    assert refusal(copied).code == "MX-M001"


@pytest.mark.parametrize(
    ("before", "after"), [("max_radiographs = 3", "max_radiographs = 0"), ("[calibration]", "[calibrations]")]
)
def test_content_that_cannot_be_is_refused(before: str, after: str, copied: Path) -> None:
    edit(copied, before, after)
    assert refusal(copied).code == "MX-M002"


def test_a_bundle_of_another_version_is_refused_as_such(copied: Path) -> None:
    edit(copied, "format = 4", "format = 3")
    assert refusal(copied).code == "MX-M004"


def test_weights_that_do_not_fit_the_recipe_are_refused(whole: Bundle, copied: Path) -> None:
    (copied / "weights.safetensors").write_bytes(b"no weights")
    spoiled = Bundle(**{name: getattr(whole, name) for name in Bundle.__slots__} | {"path": copied})
    with pytest.raises(EnvironmentFault, match="do not fit the recipe") as raised:
        load_model(spoiled)
    assert raised.value.code == "MX-M002"


def test_nothing_is_replaced(whole: Bundle) -> None:
    with pytest.raises(UsageError, match="would replace") as raised:
        write_untrained(whole.path, recipe=RECIPE)
    assert raised.value.code == "MX-U001"


def test_a_bundle_that_fails_half_way_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mxbatch.engine.runtime.golden.write_golden", full)
    with pytest.raises(EnvironmentFault, match="MX-E004"):
        write_untrained(tmp_path / "bundle", recipe=RECIPE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_calibration_that_would_turn_the_order_around_is_refused(scale: float) -> None:
    with pytest.raises(UsageError, match="finite and scales positive"):
        Calibration(scale=(scale,), bias=(0.0,))


def test_the_card_says_lists_and_rules_in_words(whole: Bundle) -> None:
    manifest = tomllib.loads((whole.path / "bundle.toml").read_text("utf-8"))
    rule = {"alpha": 0.05, "abnormal_from": "largest F1"}
    manifest["training"] = {
        "centres": ["BCM", "TCP"],
        "specimens": {"train": 7, "test": 2},
        "thresholds": {"rule": rule, "nodes": {"abnormal": {"f1": 0.85}}},
    }
    card = model_card(manifest)
    for line in ("- centres: BCM, TCP", "- specimens: train 7, test 2", "- abnormal_from: largest F1"):
        assert f"\n{line}\n" in card
    assert "{" not in card
