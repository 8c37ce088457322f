"""The trainer as a user meets it: draw an archive, train a recipe on it, measure the bundle, score with it."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import timm
import tomli_w
import torch
from conftest import Run

from mxbatch.engine.bundle import read_bundle
from mxbatch.engine.errors import UsageError
from mxbatch.engine.taxonomy import read_taxonomy
from mxbatch.trainer.evaluate import evaluate
from mxbatch.trainer.phantom.archive import draw_archive
from mxbatch.trainer.train import train

TINY = """
views = ["dv", "lv"]
max_radiographs = 4
[backbone]
kind = "cae"
name = "tiny"
widths = [8, 16]
latent = 16
[head]
width = 16
[input]
size = 32
[training]
batch = 32
pretrain = { epochs = 1, patch = 8 }
stages = [{ levels = [1], epochs = 1 }, { levels = [1, 2], epochs = 1 }, { levels = [1, 2, 3], epochs = 1 }]
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantoms") / "archive"
    draw_archive(root, specimens=240, seed=1, prevalence=0.9, size=64)
    return root


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def test_from_phantoms_to_calls(archive: Path, recipe: Path, tmp_path: Path, mxbatch: Run) -> None:
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    trained = mxbatch(
        "train", recipe, "--archive", archive, "--out", "model", "--epochs", "2", "--json", **cache
    )
    assert trained.returncode == 0, trained.stderr
    said = json.loads(trained.stdout)
    bundle = read_bundle(tmp_path / "model")
    assert {stage["epochs"] for stage in bundle.recipe.training["stages"]} == {2}
    assert said["model_id"] == bundle.model_id
    assert bundle.learned_from == "phantoms"
    assert bundle.model_id.startswith("phantom-tiny-mv-")
    assert set(said["metrics"]) == {"test_auc_l1", "test_auc_l2", "test_auc_l3", "bfloat16_difference"}
    assert 0 < said["metrics"]["bfloat16_difference"] < 0.1
    assert {"archive", "fingerprint", "specimens", "thresholds"} <= set(bundle.info["training"])
    card = (tmp_path / "model" / "MODEL_CARD.md").read_text()
    assert "trained on phantoms" in card
    assert {path.name for path in (tmp_path / "model-run").iterdir()} >= {
        "metrics.csv",
        "curves.png",
        "split.csv",
    }

    split = tmp_path / "model-run" / "split.csv"
    measured = mxbatch(
        "evaluate",
        "model",
        "--archive",
        archive,
        "--out",
        "report",
        "--split",
        split,
        "--bootstrap",
        50,
        **cache,
    )
    assert measured.returncode == 0, measured.stderr
    assert "drawn" in measured.stdout
    with split.open() as handle:
        tested = sum(row["split"] == "test" for row in csv.DictReader(handle))
    assert pq.read_table(tmp_path / "report" / "predictions.parquet").num_rows == tested

    against = ["--truth", "--split", split, "--bootstrap", 20, "--view", "dv"]
    truly = mxbatch("evaluate", "model", "--archive", archive, "--out", "truly", *against, **cache)
    assert truly.returncode == 0, truly.stderr
    assert "Labels are what was drawn" in truly.stdout
    assert json.loads((tmp_path / "truly" / "metrics.json").read_text())["labels"] == "truth"

    scored = mxbatch("score", archive, "--model", "model", "--limit", 5, "--runtime", "eager", **cache)
    assert scored.returncode == 0, scored.stderr
    assert "trained on phantoms" in scored.stdout


def test_processes_that_torchrun_started_make_one_bundle_and_say_so_once(
    archive: Path, recipe: Path, tmp_path: Path
) -> None:
    together = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "mxbatch"]
    trained = subprocess.run(
        [sys.executable, "-m", *together, "train", recipe, "--archive", archive, "--out", "model", "--json"],
        cwd=tmp_path,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)["model_id"] == read_bundle(tmp_path / "model").model_id
    said = [line for line in trained.stderr.splitlines() if line]
    assert len(said) == len(set(said))
    assert not [line for line in said if "Warning" in line]


def test_a_bundle_names_what_it_was_made_of_and_not_where_that_lay(
    archive: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(7)
    path = tmp_path / "somebodys" / "convnext.pth"
    path.parent.mkdir()
    torch.save(timm.create_model("test_convnext", pretrained=False).state_dict(), path)
    table = tomllib.loads(TINY)
    table["backbone"], table["views"] = {"kind": "timm", "name": "test_convnext"}, ["dv"]
    del table["training"]["pretrain"]
    table["training"] |= {"weights": str(path), "weights_licence": "MIT"}
    recipe.write_text(tomli_w.dumps(table))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(archive)
    trained = train(recipe, Path(), tmp_path / "model", epochs=1)
    assert trained
    bundle = trained.bundle

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    begun = {"file": "convnext.pth", "sha256": digest, "licence": "MIT"}
    assert bundle.info["training"]["initial_weights"] == begun
    assert bundle.info["training"]["archive"] == "archive"
    assert bundle.info["licence"] == "MIT"
    assert bundle.recipe.training["weights"] == "convnext.pth"
    assert bundle.recipe.training["weights_sha256"] == digest
    for name in ("bundle.toml", "MODEL_CARD.md"):
        text = (bundle.path / name).read_text()
        assert digest in text
        assert "convnext.pth" in text
        assert "somebodys" not in text
        assert str(archive.parent) not in text


def test_the_same_command_again_does_not_replace_a_bundle(
    archive: Path, recipe: Path, tmp_path: Path, mxbatch: Run
) -> None:
    (tmp_path / "model").mkdir()
    again = mxbatch("train", recipe, "--archive", archive, "--out", "model")
    assert (again.returncode, "MX-U001" in again.stderr) == (2, True)


@pytest.fixture
def copied(archive: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(archive, tmp_path / "archive"))


def without_labels(archive: Path) -> None:
    (archive / "experiment.csv").unlink()


def without_digits(archive: Path) -> None:
    """Every answer about a digit says normal."""
    normal = {
        parameter.id: parameter.normal[0] if parameter.normal else str(parameter.expected)
        for node in read_taxonomy().nodes
        if node.name == "digits"
        for parameter in node.parameters
    }
    with (archive / "experiment.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        if (number := row["parameter_stable_id"].removesuffix("_001")) in normal:
            row["category" if row["category"] else "data_point"] = normal[number]
    with (archive / "experiment.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [(without_labels, "MX-T001", "experiment"), (without_digits, "MX-T002", "digits")],
)
def test_what_nobody_can_learn_from_is_named_and_leaves_nothing(
    spoil: object, code: str, words: str, copied: Path, recipe: Path, tmp_path: Path, mxbatch: Run
) -> None:
    spoil(copied)  # type: ignore[operator]
    refused = mxbatch(
        "train", recipe, "--archive", copied, "--out", "model", XDG_CACHE_HOME=str(tmp_path / "cache")
    )
    assert refused.returncode == 2
    assert code in refused.stderr
    assert words in refused.stderr
    assert refused.stderr.count("MX-") == 1
    assert not (tmp_path / "model").exists()
    assert not (tmp_path / "model-run").exists()


def test_a_colony_on_two_sides_is_named(archive: Path, recipe: Path, tmp_path: Path, mxbatch: Run) -> None:
    with (archive / "impc_images.csv").open() as handle:
        line = [row for row in csv.DictReader(handle) if row["colony_id"] != "baseline"]
    colony = line[0]["colony_id"]
    animals = sorted({row["external_sample_id"] for row in line if row["colony_id"] == colony})
    rows = [f"{animal},{'train' if n else 'test'}" for n, animal in enumerate(animals)]
    (tmp_path / "split.csv").write_text("\n".join(["specimen_id,split", *rows]))
    refused = mxbatch(
        "train", recipe, "--archive", archive, "--out", "model", "--split", "split.csv",
        XDG_CACHE_HOME=str(tmp_path / "cache"),
    )  # fmt: skip
    assert refused.returncode == 2
    assert "MX-T003" in refused.stderr
    assert colony in refused.stderr


def test_a_missing_library_is_named_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("mxbatch.trainer.extras.NEEDED", ("numpy", "no_such_library"))
    for command in (
        lambda: train("cae_mv", tmp_path, tmp_path / "m"),
        lambda: evaluate([], tmp_path, tmp_path / "m"),
    ):
        with pytest.raises(UsageError, match=r"MX-U001 no_such_library cannot .*mxbatch\[train\]"):
            command()


def test_the_commands_list_what_there_is(tmp_path: Path, mxbatch: Run) -> None:
    listed = json.loads(mxbatch("recipes", "--json").stdout)
    assert {"convnext_mv", "cae_mv", "convnext_direct_mv"} <= {entry["name"] for entry in listed}
    drawn = mxbatch("phantom", "few", "--specimens", 3, "--size", 64, "--prevalence", 1, "--json")
    assert json.loads(drawn.stdout)["specimens"] == 3
    assert (tmp_path / "few" / "truth.csv").exists()
    unknown = mxbatch("train", "convnext_m", "--archive", "few", "--out", "model")
    assert unknown.returncode == 2
    assert "convnext_mv" in unknown.stderr
