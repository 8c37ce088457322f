"""A training from its first step to its last: it learns, repeats itself exactly, resumes, and refuses to mix."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import toy_training
from torch import Tensor
from toy_training import TAXONOMY, stages, toy_dataset, toy_recipe, toy_split

from mxbatch.engine.bundle import write_bundle
from mxbatch.engine.errors import EnvironmentFault, UsageError
from mxbatch.engine.models.hierarchical import HierarchicalModel, build_model
from mxbatch.engine.models.recipe import Recipe
from mxbatch.engine.runtime.scorer import open_scorer
from mxbatch.trainer.fit import fit
from mxbatch.trainer.initial_weights import begin_at_full_size, load_initial_weights
from mxbatch.trainer.predict import predict_logits
from mxbatch.trainer.progress import Silent
from mxbatch.trainer.supervised import Supervised
from mxbatch.trainer.training import training_of

TOYS = toy_dataset()
SPLIT = toy_split(TOYS)
SHORT = {"stages": stages([1], [1, 2, 3])}


def train(run: Path, recipe: Recipe, **options: Any) -> HierarchicalModel:
    return fit(recipe, TOYS, SPLIT, TAXONOMY, run, device="cpu", **options)


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class StopAfter(Silent):
    """Somebody presses Ctrl-C in the middle of epoch number `epochs` + 1, counted over all phases."""

    def __init__(self, epochs: int) -> None:
        self.left = epochs

    def epoch(self, row: Any) -> None:
        self.left -= 1

    def step(self, phase: str, epoch: int, epochs: int, loss: float) -> None:
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, HierarchicalModel]:
    run = tmp_path_factory.mktemp("short")
    return run, train(run, toy_recipe(**SHORT))


def test_the_runs_folder_tells_epoch_by_epoch_what_happened(short: tuple[Path, HierarchicalModel]) -> None:
    run, _ = short
    table = rows(run)
    assert [(row["stage"], row["epoch"]) for row in table] == [("level 1", "1"), ("level 1+2+3", "1")]
    assert table[0]["loss_l1"]
    assert not table[0]["loss_l2"]
    assert float(table[1]["loss"]) == pytest.approx(
        sum(float(table[1][f"loss_l{n}"]) for n in (1, 2, 3)), rel=1e-4
    )
    for row in table:
        assert float(row["specimens_per_s"]) > 0
        assert float(row["validation_loss"]) > 0
        assert 0 <= float(row["auc_l1"]) <= 1
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in run.iterdir()) == ["checkpoint.pt", "curves.png", "metrics.csv"]


def test_the_same_seed_gives_the_same_weights_and_lends_torchs_random_state(
    short: tuple[Path, HierarchicalModel], tmp_path: Path
) -> None:
    state = torch.get_rng_state()
    again = train(tmp_path / "again", toy_recipe(**SHORT))
    other = train(tmp_path / "other", toy_recipe(seed=1, **SHORT))
    assert same(weights(again), weights(short[1]))
    assert not same(weights(other), weights(short[1]))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_finished_training_is_not_done_again(short: tuple[Path, HierarchicalModel]) -> None:
    run, model = short
    before = (run / "checkpoint.pt").stat().st_mtime_ns
    assert same(weights(train(run, toy_recipe(**SHORT))), weights(model))
    assert (run / "checkpoint.pt").stat().st_mtime_ns == before


def test_without_resume_it_begins_anew(short: tuple[Path, HierarchicalModel], tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"of somebody else")
    assert same(weights(train(tmp_path, toy_recipe(**SHORT), resume=False)), weights(short[1]))


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_training_that_was_stopped_ends_as_if_it_had_not_been(epochs: int, tmp_path: Path) -> None:
    recipe = toy_recipe(pretrain={"epochs": 2, "patch": 4}, **SHORT)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", recipe, display=StopAfter(epochs))
    assert len(rows(tmp_path / "stopped")) == epochs
    resumed = train(tmp_path / "stopped", recipe)
    assert same(weights(resumed), weights(train(tmp_path / "undisturbed", recipe)))
    assert [row["stage"] for row in rows(tmp_path / "stopped")] == [
        "pretrain",
        "pretrain",
        "level 1",
        "level 1+2+3",
    ]


@pytest.mark.parametrize(
    ("head", "plan"),
    [
        ("hierarchical", stages([1], [1, 2, 3], epochs=4, learning_rate=1e-2)),
        ("direct", stages([1, 2, 3], epochs=8, learning_rate=1e-2)),
    ],
)
def test_it_learns_what_can_be_learned(head: str, plan: list[dict[str, Any]], tmp_path: Path) -> None:
    data = toy_dataset(150)
    recipe = toy_recipe(
        head,
        stages=plan,
        augment=toy_training.STILL,
        view_dropout=0,
        ema_decay=0.9,
        precision="float32",
    )
    fit(recipe, data, toy_split(data), TAXONOMY, tmp_path, device="cpu")
    table = rows(tmp_path)
    stage = [row for row in table if row["stage"] == table[-1]["stage"]]
    assert float(stage[-1]["auc_l1"]) > 0.8
    assert float(stage[-1]["auc_l2"]) > 0.65
    assert float(stage[-1]["validation_loss"]) < float(stage[0]["validation_loss"])


def test_pretraining_draws_ever_better_and_looks_at_no_label(tmp_path: Path) -> None:
    recipe = toy_recipe(pretrain={"epochs": 16, "patch": 4, "learning_rate": 3e-2}, **SHORT)
    blind = toy_dataset()
    blind.labels[:] = blind.labels[::-1].copy()
    drawn = []
    for name, data in (("seeing", TOYS), ("blind", blind)):
        with pytest.raises(KeyboardInterrupt):
            fit(recipe, data, SPLIT, TAXONOMY, tmp_path / name, device="cpu", display=StopAfter(16))
        drawn.append([row["validation_loss"] for row in rows(tmp_path / name)])
    assert drawn[0] == drawn[1]
    assert float(drawn[0][-1]) < 0.9 * float(drawn[0][0])


def test_a_frozen_trunk_stays_as_it_is_and_only_the_stages_own_level_learns(tmp_path: Path) -> None:
    table = {
        "stages": [*stages([1]), *stages([2], earlier_rate=0), *stages([3], earlier_rate=0)],
        "ema_decay": 0,
    }
    snapshots: list[dict[str, Tensor]] = []

    class Watch(Silent):
        def epoch(self, row: Any) -> None:
            content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
            snapshots.append(content["model"])

    train(tmp_path, toy_recipe(questions=True, **table), display=Watch())
    for stage, (before, after) in enumerate(pairwise(snapshots), start=1):
        changed = {name for name in after if not torch.equal(before[name], after[name])}
        assert changed
        assert all(name.startswith(f"head.levels.{stage}.") for name in changed), changed


def test_questions_are_a_part_of_the_loss(tmp_path: Path) -> None:
    train(tmp_path, toy_recipe(questions=True, stages=stages([1], [2, 3])))
    table = rows(tmp_path)
    assert all(float(row["loss_questions"]) > 0 for row in table)
    assert float(table[1]["loss"]) == pytest.approx(
        sum(float(table[1][f"loss_{part}"]) for part in ("l2", "l3", "questions")), rel=1e-4
    )


def test_a_level_alone_learns_from_specimens_whose_parent_is_abnormal() -> None:
    recipe = toy_recipe(stages=stages([2], [1, 2], [3]), balance=0)
    plan = {
        "recipe": recipe,
        "training": training_of(recipe),
        "taxonomy": TAXONOMY,
        "dataset": TOYS,
        "split": SPLIT,
    }
    abnormal = {n for n in SPLIT.train.tolist() if TOYS.labels[n, 0] == 1}
    for stage, expected in zip(
        plan["training"].stages, (abnormal, set(SPLIT.train.tolist()), abnormal), strict=True
    ):
        steps = Supervised(stage, **plan).steps(np.random.default_rng(0))
        assert {int(n) for step in steps for n in step} == expected


def test_a_stage_without_anybody_to_learn_from_is_refused(tmp_path: Path) -> None:
    data = toy_dataset()
    data.labels[:] = 0
    with pytest.raises(UsageError, match="level 2: no specimen of the training side has a label") as raised:
        fit(toy_recipe(stages=stages([2], [1, 3])), data, SPLIT, TAXONOMY, tmp_path, device="cpu")
    assert raised.value.code == "MX-T002"


@pytest.mark.parametrize("changed", ["recipe", "dataset", "split"])
def test_the_checkpoint_of_another_training_is_refused(
    changed: str, short: tuple[Path, HierarchicalModel]
) -> None:
    recipe = toy_recipe(**SHORT, **({"batch": 9} if changed == "recipe" else {}))
    data = toy_dataset(seed=1) if changed == "dataset" else TOYS
    split = SPLIT
    if changed == "split":
        split = toy_split(TOYS)
        split.train[[0, 1]] = split.train[[1, 0]]
    with pytest.raises(UsageError, match=f"made with another {changed}") as raised:
        fit(recipe, data, split, TAXONOMY, short[0], device="cpu")
    assert raised.value.code == "MX-T005"


def test_a_damaged_checkpoint_is_named_and_nothing_of_it_is_run(
    short: tuple[Path, HierarchicalModel], tmp_path: Path
) -> None:
    whole = (short[0] / "checkpoint.pt").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"\x80\x02cos\nsystem\n."):
        (tmp_path / "checkpoint.pt").write_bytes(content)
        with pytest.raises(EnvironmentFault, match="the checkpoint cannot be read") as raised:
            train(tmp_path, toy_recipe(**SHORT))
        assert raised.value.code == "MX-E009"


def test_a_loss_that_is_no_number_stops_the_training_and_says_where(tmp_path: Path) -> None:
    recipe = toy_recipe(stages=stages([1, 2, 3], learning_rate=1e30))
    with pytest.raises(
        EnvironmentFault, match=r"level 1\+2\+3, epoch 1, step \d+: the loss is no number"
    ) as raised:
        train(tmp_path, recipe)
    assert raised.value.code == "MX-T004"
    assert not list(tmp_path.iterdir())


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no device 'cuda:99' here"):
        fit(toy_recipe(**SHORT), TOYS, SPLIT, TAXONOMY, tmp_path, device="cuda:99")


def test_what_was_trained_makes_a_bundle_that_scores_alike(
    short: tuple[Path, HierarchicalModel], tmp_path: Path
) -> None:
    _, model = short
    bundle = write_bundle(tmp_path / "bundle", model, recipe=toy_recipe(**SHORT), taxonomy=TAXONOMY)
    open_scorer(bundle, runtime="eager", batch=4)  # computes the golden numbers again
    logits = predict_logits(model, TOYS, SPLIT.validation, radiographs=3)
    alone = [predict_logits(model, TOYS, SPLIT.validation[n : n + 1], radiographs=3) for n in range(4)]
    assert logits.shape == (len(SPLIT.validation), len(TAXONOMY.nodes))
    np.testing.assert_allclose(logits[:4], np.concatenate(alone), atol=1e-5)


def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, toy_training.__file__, tmp_path / "two", tmp_path / f"weights-{rank}", "still"],
            env={**os.environ, **together, "RANK": rank},
        )
        for rank in "01"
    ]
    one = weights(train(tmp_path / "one", toy_training.still_recipe()))
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    first, second = (torch.load(tmp_path / f"weights-{rank}", weights_only=True) for rank in "01")
    assert same(first, second)
    for key in one:
        torch.testing.assert_close(one[key], first[key], rtol=0, atol=2e-3)
    for key in ("loss", "validation_loss"):
        losses = [[float(row[key]) for row in rows(tmp_path / name)] for name in ("one", "two")]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)


# ---- weights to begin with ------------------------------------------------------------------------------------------

TINY = {"kind": "timm", "name": "test_convnext"}


def with_weights(path: Path, **backbone: Any) -> Recipe:
    table = toy_recipe(weights=str(path), weights_licence="Apache-2.0", **SHORT).as_dict()
    return Recipe.from_dict({**table, "backbone": {**TINY, **backbone}})


@pytest.fixture(scope="module")
def timm_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What timm would hand out: colour, a classifier, blocks in their linear form."""
    torch.manual_seed(7)
    path = tmp_path_factory.mktemp("weights") / "test_convnext.safetensors"
    body = timm.create_model("test_convnext", pretrained=False)
    safetensors.torch.save_file({k: v.contiguous() for k, v in body.state_dict().items()}, path)
    return path


@pytest.mark.parametrize("conv_mlp", [False, True])
def test_weights_of_timm_are_fitted_to_one_grey_channel_and_to_the_recipes_form(
    conv_mlp: bool, timm_file: Path
) -> None:
    recipe = with_weights(timm_file, conv_mlp=conv_mlp)
    model = build_model(recipe, TAXONOMY, seed=0)
    load_initial_weights(model, timm_file)
    theirs = safetensors.torch.load_file(timm_file)
    ours = model.encoder.backbone.body.state_dict()
    torch.testing.assert_close(ours["stem.0.weight"], theirs["stem.0.weight"].sum(1, keepdim=True))
    name = "stages.1.blocks.0.mlp.fc1.weight"
    torch.testing.assert_close(ours[name].flatten(), theirs[name].flatten())
    grey = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        expected = timm.create_model("test_convnext", num_classes=0)
        expected.load_state_dict(theirs, strict=False)
        colour = expected.eval()(grey.expand(-1, 3, -1, -1))
        torch.testing.assert_close(model.encoder.backbone.eval()(grey), colour, rtol=1e-3, atol=1e-4)


def test_convolutions_that_begin_at_full_size_keep_signals_at_theirs() -> None:
    recipe = Recipe.from_dict({**toy_recipe().as_dict(), "backbone": {**TINY, "conv_mlp": True}})
    model, again = (build_model(recipe, TAXONOMY, seed=seed) for seed in (0, 1))
    own = model.encoder.backbone.body.stages[2].blocks[0].mlp.fc1
    assert own.weight.std().item() < 0.05
    for each in (model, again):
        begin_at_full_size(each.encoder, seed=3)
    assert own.weight.std().item() == pytest.approx((2 / own.in_channels) ** 0.5, rel=0.1)
    assert own.bias.abs().max() == 0
    assert torch.equal(own.weight, again.encoder.backbone.body.stages[2].blocks[0].mlp.fc1.weight)


def test_weights_that_are_none_of_the_architectures_are_refused(timm_file: Path, tmp_path: Path) -> None:
    whole = safetensors.torch.load_file(timm_file)
    cases = {
        "other.safetensors": {"stem.0.weight": torch.zeros(8, 3, 9, 9)},
        "part.pth": {"state_dict": {name: whole[name] for name in whole if "stages.1" not in name}},
        "list.pth": [1, 2],
    }
    recipe = with_weights(timm_file)
    for name, content in cases.items():
        path = tmp_path / name
        if path.suffix == ".pth":
            torch.save(content, path)
        else:
            safetensors.torch.save_file(content, path)
        model = build_model(recipe, TAXONOMY, seed=0)
        with pytest.raises(UsageError, match="weights") as raised:
            load_initial_weights(model, path)
        assert raised.value.code == "MX-U007"
    (tmp_path / "torn.pth").write_bytes(b"\x80\x02cos\nsystem\n.")
    for path in (tmp_path / "torn.pth", tmp_path / "nowhere.safetensors"):
        with pytest.raises(UsageError, match="the weights cannot be read"):
            load_initial_weights(build_model(recipe, TAXONOMY, seed=0), path)
