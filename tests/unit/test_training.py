"""The recipe's [training] table, and what follows from it: who is drawn, who learns, and how fast."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torch import nn

from mxbatch.engine.errors import UsageError
from mxbatch.engine.models.recipe import Recipe
from mxbatch.trainer.ema import follow, shadow
from mxbatch.trainer.order import cut, draw, expected_draws
from mxbatch.trainer.precision import precision_on
from mxbatch.trainer.schedule import optimiser_over, rate_at, set_rate
from mxbatch.trainer.training import OPTIMISERS, Training, training_of, with_epochs

STAGE = {"levels": [1, 2, 3], "epochs": 1}


def parse(training: Any, **recipe: Any) -> Training:
    return training_of(Recipe.from_dict({"name": "x", "training": training, **recipe}))


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ---- the table ------------------------------------------------------------------------------------------------------


def test_a_recipe_that_says_nothing_is_trained_level_by_level() -> None:
    assert [stage.levels for stage in parse({}).stages] == [(1,), (1, 2), (1, 2, 3)]
    assert [stage.levels for stage in parse({}, head={"kind": "direct"}).stages] == [(1, 2, 3)]


def test_another_number_of_epochs_makes_another_recipe_and_changes_nothing_else() -> None:
    recipe = Recipe.from_dict(
        {"name": "x", "training": {"batch": 7, "stages": [STAGE, {**STAGE, "earlier_rate": 0}]}}
    )
    longer = with_epochs(recipe, 5)
    assert Recipe.from_dict(longer.as_dict()).as_dict() == longer.as_dict()
    before, after = training_of(recipe), training_of(longer)
    assert [stage.epochs for stage in after.stages] == [5, 5]
    assert [replace(stage, epochs=1) for stage in after.stages] == list(before.stages)
    assert replace(after, stages=before.stages) == before
    with pytest.raises(UsageError, match=r"MX-U007 .*epochs is 0, 1 is the least"):
        with_epochs(recipe, 0)


def test_every_key_arrives() -> None:
    training = parse(
        {
            "stages": [{"levels": [1], "epochs": 2, "learning_rate": 1e-4}, {**STAGE, "earlier_rate": 0}],
            "batch": 7,
            "seed": 3,
            "loss": {"kind": "focal", "gamma": 1, "class_weights": "none"},
            "augment": {"rotation_deg": 45, "mirror": 0.5},
            "pretrain": {"epochs": 2, "mask_share": 0.25},
        },
        backbone={"kind": "cae", "name": "cae"},
    )
    assert [(s.levels, s.epochs, s.earlier_rate) for s in training.stages] == [
        ((1,), 2, 1.0),
        ((1, 2, 3), 1, 0),
    ]
    assert (training.batch, training.seed, training.loss.kind, training.augment.mirror) == (
        7,
        3,
        "focal",
        0.5,
    )
    assert training.pretrain is not None
    assert training.pretrain.mask_share == 0.25


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"epochs": 3}, "unknown key 'epochs'; known are stages, batch"),
        ({"stages": []}, "no stage is named"),
        ({"stages": 3}, "stages is not an array of tables"),
        ({"stages": [{"levels": [1]}]}, "lacks the key 'epochs'"),
        ({"stages": [{"levels": [1, 2], "epochs": 1}]}, "no stage trains level 3"),
        ({"stages": [{"levels": [], "epochs": 1}]}, "names no level"),
        ({"stages": [{"levels": [2, 1], "epochs": 1}]}, "levels rise"),
        ({"stages": [{"levels": [4], "epochs": 1}]}, "each one of [1, 2, 3]"),
        ({"stages": [{**STAGE, "epochs": 0}]}, "epochs is 0, 1 is the least"),
        ({"stages": [{**STAGE, "learning_rate": 0}]}, "must be more than 0"),
        ({"stages": [{**STAGE, "learning_rate": math.nan}]}, "must be more than 0"),
        ({"stages": [{**STAGE, "earlier_rate": 2}]}, "must be from 0 to 1"),
        ({"stages": [{**STAGE, "earlier_rate": 0}]}, "freezes an encoder that nothing has trained"),
        ({"batch": 0}, "batch is 0, 1 is the least"),
        ({"batch": "32"}, "is not a whole number"),
        ({"seed": -1}, "seed is -1"),
        ({"balance": 1.5}, "balance is 1.5"),
        ({"view_dropout": 1.0}, "view_dropout is 1.0"),
        ({"unnamed": 1.1}, "unnamed is 1.1"),
        ({"precision": "float16"}, "precision 'float16' is none of auto, bfloat16, float32"),
        ({"loss": {"kind": "hinge"}}, "'hinge' is none of bce, focal, asymmetric"),
        ({"loss": {"cap": 0.5}}, "cap is 0.5"),
        ({"loss": 3}, "[training.loss] is not a table"),
        ({"augment": {"flip": 0.5}}, "[training.augment] has the unknown key 'flip'"),
        ({"augment": {"mirror": 2}}, "mirror is 2"),
        ({"pretrain": {"epochs": 2}}, "only an autoencoder"),
        ({"weights": "file.safetensors"}, "not under which licence"),
    ],
)
def test_nonsense_is_refused_in_words(table: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)) as raised:
        parse(table)
    assert raised.value.code == "MX-U007"


def test_a_direct_head_has_no_levels_to_train_one_by_one() -> None:
    with pytest.raises(UsageError, match="a direct head answers for all levels at once"):
        parse({"stages": [{"levels": [1], "epochs": 1}, STAGE]}, head={"kind": "direct"})


@pytest.mark.parametrize(
    "table", [{"weights_sha256": "0" * 64}, {"weights": "a.pth", "weights_sha256": "0" * 63 + "g"}]
)
def test_a_checksum_is_one_and_of_a_file_that_is_named(table: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="weights_sha256 is the SHA-256 of the file weights"):
        parse({"weights_licence": "Apache-2.0", **table})


def test_an_autoencoder_takes_no_weights_of_timm() -> None:
    table = {"weights": "file.pth", "weights_licence": "Apache-2.0"}
    with pytest.raises(UsageError, match="only timm's backbones"):
        parse(table, backbone={"kind": "cae", "name": "cae"})


# ---- who is drawn ---------------------------------------------------------------------------------------------------


@st.composite
def labelled(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    shape = (draw(st.integers(1, 40)), draw(st.integers(1, 5)))
    return draw(arrays(np.float32, shape, elements=st.sampled_from([0.0, 1.0]))), draw(
        arrays(np.bool_, shape)
    )


@given(labelled(), st.floats(0, 1), st.integers(0, 2**16))
def test_an_epoch_draws_each_specimen_its_share_and_none_without_a_label(
    case: tuple[NDArray[np.float32], NDArray[np.bool_]], balance: float, seed: int
) -> None:
    labels, counts = case
    draws = expected_draws(labels, counts, balance)
    usable = counts.any(axis=1)
    assert ((draws > 0) == usable).all()
    assert draws.sum() == pytest.approx(usable.sum())
    drawn = np.bincount(draw(draws, random(seed)), minlength=len(draws))
    assert drawn.sum() == usable.sum()
    assert (np.abs(drawn - draws) < 1 + 1e-6).all()


@given(labelled(), st.integers(0, 2**16))
def test_without_balance_each_usable_specimen_comes_once(
    case: tuple[NDArray[np.float32], NDArray[np.bool_]], seed: int
) -> None:
    labels, counts = case
    order = draw(expected_draws(labels, counts, 0), random(seed))
    assert sorted(order) == np.flatnonzero(counts.any(axis=1)).tolist()


def test_full_balance_draws_every_class_equally_often() -> None:
    labels = np.zeros((100, 2), np.float32)
    labels[:10, 0], labels[10:12, 1] = 1, 1
    draws = expected_draws(labels, np.ones_like(labels, bool), 1.0)
    assert draws[:10].sum() == pytest.approx(draws[10:12].sum()) == pytest.approx(draws[12:].sum())


def test_an_epochs_order_follows_from_its_random_numbers() -> None:
    draws = np.ones(50)
    one, same, other = (draw(draws, random(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@given(st.integers(1, 500), st.integers(1, 64))
def test_steps_are_of_nearly_equal_size(count: int, batch: int) -> None:
    steps = cut(np.arange(count), batch)
    sizes = [len(step) for step in steps]
    assert np.array_equal(np.concatenate(steps), np.arange(count))
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1
    assert max(sizes) <= 1.5 * batch + 1


# ---- who learns, and how fast ---------------------------------------------------------------------------------------


@given(st.integers(1, 200), st.floats(0, 1))
def test_the_rate_rises_in_a_line_and_falls_in_a_cosine(steps: int, warmup: float) -> None:
    rates = [rate_at(step, steps, highest=2.0, warmup=warmup) for step in range(steps)]
    peak = int(np.argmax(rates))
    assert max(rates) == 2.0
    assert min(rates) > 0
    assert (np.diff(rates[: peak + 1]) > 0).all()
    assert (np.diff(rates[peak:]) < 0).all()


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_what_came_earlier_learns_at_its_share_and_vectors_do_not_decay(kind: str) -> None:
    early, late = nn.Linear(16, 24), nn.Linear(24, 2)
    optimiser = optimiser_over(
        late.parameters(), early.parameters(), kind=kind, earlier_rate=0.1, weight_decay=0.5
    )
    set_rate(optimiser, 2.0)
    seen = {id(p): (g["lr"], g["weight_decay"]) for g in optimiser.param_groups for p in g["params"]}
    assert seen[id(late.weight)] == (2.0, 0.5)
    assert seen[id(late.bias)] == (2.0, 0.0)
    assert seen[id(early.weight)] == (pytest.approx(0.2), 0.5)
    assert seen[id(early.bias)] == (pytest.approx(0.2), 0.0)
    by_muon = {id(p) for g in optimiser.param_groups if g["matrices"] for p in g["params"]}
    assert by_muon == ({id(early.weight)} if kind == "muon" else set())


def test_the_running_mean_follows_the_weights_and_copies_what_counts_steps() -> None:
    model = nn.BatchNorm1d(1)
    mean = shadow(model)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.num_batches_tracked.fill_(7)
    follow(mean, model, step=10**6, decay=0.75)
    assert mean.weight.item() == 1.5
    assert mean.num_batches_tracked.item() == 7
    follow(mean, model, step=0, decay=0.999)  # an early step is believed nine tenths
    assert mean.weight.item() == pytest.approx(2.85)
    follow(mean, model, step=5, decay=0.0)
    assert mean.weight.item() == 3.0
    assert not mean.training
    assert not any(parameter.requires_grad for parameter in mean.parameters())


def test_precision_is_what_was_asked_for_or_what_the_processor_has() -> None:
    cpu = torch.device("cpu")
    assert precision_on(cpu, "float32") == torch.float32
    assert precision_on(cpu, "bfloat16") == torch.bfloat16
    assert precision_on(cpu, "auto") in (torch.float32, torch.bfloat16)
