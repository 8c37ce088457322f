"""The recipe's [training] table: how a model is trained, as values that refuse nonsense before anything begins.

The engine keeps the table and looks at none of it; here it gets its meaning. Levels are trained in `stages`,
one after the other: a stage trains the layers of its own levels, at its learning rate, and what lies before
them (the encoder, the fusion of the views, the levels above) at `earlier_rate` times that, 0 to freeze it. A
stage learns from every specimen that has a label in one of its levels, and with conditional labels a node has
one only where its parent is abnormal. So `levels = [1]` learns from all specimens, `levels = [2]` from the
abnormal ones alone, and `levels = [1, 2]` from all, its second level from the abnormal ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mxbatch.engine.errors import UsageError
from mxbatch.engine.models.recipe import Recipe
from mxbatch.engine.records import from_table
from mxbatch.engine.taxonomy import LEVELS

LOSSES = ("bce", "focal", "asymmetric")
CLASS_WEIGHTS = ("balanced", "none")
PRECISIONS = ("auto", "bfloat16", "float32")
OPTIMISERS = ("muon", "adamw")
INITIAL = ("own", "kaiming")
SHA256 = re.compile(r"[0-9a-f]{64}")


def _require(rule: bool, words: str) -> None:
    if not rule:
        raise UsageError("MX-U007", f"[training] {words}")


def _one_of(value: str, known: tuple[str, ...], what: str) -> None:
    _require(value in known, f"{what} {value!r} is none of {', '.join(known)}")


def _at_least(value: float, least: float, what: str) -> None:
    _require(value >= least, f"{what} is {value}, {least} is the least")


def _positive(value: float, what: str) -> None:
    _require(value > 0, f"{what} is {value}, it must be more than 0")


def _within(value: float, low: float, high: float, what: str) -> None:
    _require(low <= value <= high, f"{what} is {value}, it must be from {low} to {high}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """Some epochs over the specimens that have labels in `levels`."""

    levels: tuple[int, ...]
    """Ascending; a direct head has all its nodes in one layer and so only stages of all levels."""
    epochs: int
    learning_rate: float = 1e-3
    """Its highest: a linear warm-up leads to it, a cosine away from it."""
    earlier_rate: float = 1.0
    """The learning rate of what lies before these levels, as a share; 0 freezes it."""

    def __post_init__(self) -> None:
        where = f"a stage of levels {list(self.levels)}"
        _require(bool(self.levels), "a stage names no level")
        _require(
            set(self.levels) <= set(LEVELS) and list(self.levels) == sorted(set(self.levels)),
            f"{where}: levels rise, each one of {list(LEVELS)}",
        )
        _at_least(self.epochs, 1, f"{where}: epochs")
        _positive(self.learning_rate, f"{where}: learning_rate")
        _within(self.earlier_rate, 0, 1, f"{where}: earlier_rate")


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """What a wrong answer costs. Formulas: trainer/losses.py."""

    kind: str = "bce"
    gamma: float = 2.0
    """focal, and the negatives of asymmetric: how much answers that are right already are passed over."""
    gamma_positive: float = 0.0
    """asymmetric: the same for positives."""
    margin: float = 0.05
    """asymmetric: negatives that are less probable than this cost nothing."""
    class_weights: str = "none"
    """balanced: a class's positives weigh together what its negatives weigh, up to `cap`.

    Helps where a class is so rare that it is not learned at all; elsewhere it makes every step noisier.
    """
    cap: float = 10.0

    def __post_init__(self) -> None:
        _one_of(self.kind, LOSSES, "loss: kind")
        _one_of(self.class_weights, CLASS_WEIGHTS, "loss: class_weights")
        _within(self.gamma, 0, 10, "loss: gamma")
        _within(self.gamma_positive, 0, 10, "loss: gamma_positive")
        _within(self.margin, 0, 0.5, "loss: margin")
        _at_least(self.cap, 1, "loss: cap")


@dataclass(frozen=True, kw_only=True, slots=True)
class Augment:
    """How far a radiograph may be changed by chance before it is learned from; 0 leaves a property alone."""

    rotation_deg: float = 10.0
    """Up to so many degrees to either side."""
    shear_deg: float = 3.0
    scale: float = 0.08
    """0.08: from 8 % smaller to 8 % larger."""
    translate: float = 0.04
    """To either side, as a share of the picture."""
    blur: float = 0.0
    """The most that neighbours are mixed in, as the standard deviation of a Gaussian in pixels, up to 2."""
    noise: float = 0.02
    """The most grain, as a standard deviation, 1 being the whole range of grey."""
    exposure: float = 0.2
    """Gain, and the logarithm of gamma, to either side."""
    mirror: float = 0.0
    """The share of radiographs that are mirrored.

    This swaps left and right: a finding stays a finding, but no model trained so can tell the sides apart,
    and its `lv` animals face both ways. So it never happens unless asked for.
    """

    def __post_init__(self) -> None:
        _within(self.rotation_deg, 0, 180, "augment: rotation_deg")
        _within(self.shear_deg, 0, 45, "augment: shear_deg")
        for name, highest in (("scale", 0.9), ("translate", 0.5), ("blur", 2.0), ("noise", 0.5)):
            _within(getattr(self, name), 0, highest, f"augment: {name}")
        _within(self.exposure, 0, 0.9, "augment: exposure")
        _within(self.mirror, 0, 1, "augment: mirror")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pretrain:
    """Unlabelled training of an autoencoder before the stages: hide parts of the body, have them drawn again."""

    epochs: int
    """0 for none: a recipe that has a base can say so."""
    learning_rate: float = 2e-3
    mask_share: float = 0.5
    """The share of the body's patches that is hidden."""
    patch: int = 16
    """Side of a patch, pixels."""

    def __post_init__(self) -> None:
        _at_least(self.epochs, 0, "pretrain: epochs")
        _positive(self.learning_rate, "pretrain: learning_rate")
        _within(self.mask_share, 0, 0.95, "pretrain: mask_share")
        _at_least(self.patch, 2, "pretrain: patch")


STAGES = {
    "hierarchical": (
        Stage(levels=(1,), epochs=4),
        Stage(levels=(1, 2), epochs=3, earlier_rate=0.5),
        Stage(levels=(1, 2, 3), epochs=6, earlier_rate=0.5),
    ),
    "direct": (Stage(levels=LEVELS, epochs=13),),
}
"""Kind of head -> the stages of a recipe that names none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """The whole table."""

    stages: tuple[Stage, ...]
    batch: int = 32
    """Specimens per step, over all processes together."""
    optimiser: str = "muon"
    """muon (trainer/muon.py) for matrices and adamw for the rest, or adamw for all.

    After one epoch over 8,400 phantoms, `dv` and `lv`, level 3 had AUC 0.75 with muon and 0.69 with adamw.
    """
    weight_decay: float = 0.05
    warmup: float = 0.1
    """The share of a stage's steps in which the learning rate rises."""
    balance: float = 0.0
    """How far rare classes are drawn more often: 0, every specimen once; 1, every class equally often."""
    view_dropout: float = 0.1
    """The chance of a radiograph to be left out, one of each specimen excepted.

    A missing view then degrades and does not break; but a finding that shows in one view alone goes with it.
    """
    each_alone: float = 0.0
    """What answers cost that are given from one radiograph alone, next to those from all of a specimen's.

    What one view shows plainly is not looked for in the others: `dv` alone, learned alone, told joints and digits
    better than `dv` among six views did. With this every radiograph is asked for all that it shows.
    """
    unnamed: float = 0.1
    """The share of radiographs that are asked alone once more, without the name of their view.

    Archives hold such radiographs, too, and of what a model was never shown it knows nothing.
    """
    ema_decay: float = 0.998
    """The trained weights are a running mean that forgets by this factor per step; 0: the last ones."""
    clip_norm: float = 1.0
    """The longest gradient; longer ones are shortened."""
    precision: str = "auto"
    """Of the encoder's arithmetic; auto is bfloat16 where the processor has it."""
    seed: int = 0
    initial: str = "own"
    """Convolutions before the first step: own, as the architecture has it; kaiming, so that signals keep their size.

    ConvNeXt's own are small: without weights to begin with, a small one stayed at chance on planted marks.
    """
    weights: str | None = None
    """timm: a file of timm's weights of this architecture on this machine, .safetensors or .pth, to begin with."""
    weights_licence: str | None = None
    """Under which these may be used; the bundle says it on."""
    weights_sha256: str | None = None
    """Of that file, 64 hex digits: any other file is refused. A bundle's recipe has it, beside the file's bare name."""
    questions: float = 0.6
    """Where the head has `questions`: what they cost, next to a level. A specimen's costs are summed over them."""
    loss: Loss = field(default_factory=Loss)
    augment: Augment = field(default_factory=Augment)
    pretrain: Pretrain | None = None

    def __post_init__(self) -> None:
        _require(bool(self.stages), "no stage is named")
        trained = {level for stage in self.stages for level in stage.levels}
        _require(trained == set(LEVELS), f"no stage trains level {min({*LEVELS} - trained, default=0)}")
        _at_least(self.batch, 1, "batch")
        _at_least(self.weight_decay, 0, "weight_decay")
        _within(self.warmup, 0, 1, "warmup")
        _within(self.balance, 0, 1, "balance")
        _within(self.view_dropout, 0, 0.95, "view_dropout")
        _at_least(self.each_alone, 0, "each_alone")
        _within(self.unnamed, 0, 1, "unnamed")
        _within(self.ema_decay, 0, 0.99999, "ema_decay")
        _positive(self.clip_norm, "clip_norm")
        _one_of(self.precision, PRECISIONS, "precision")
        _one_of(self.optimiser, OPTIMISERS, "optimiser")
        _one_of(self.initial, INITIAL, "initial")
        _at_least(self.seed, 0, "seed")
        _at_least(self.questions, 0, "questions")
        _require(
            not self.weights or bool(self.weights_licence),
            "weights are named, but not under which licence they may be used: weights_licence",
        )
        _require(
            self.weights_sha256 is None or bool(self.weights and SHA256.fullmatch(self.weights_sha256)),
            "weights_sha256 is the SHA-256 of the file weights, 64 hex digits",
        )
        _require(
            self.stages[0].earlier_rate > 0 or bool(self.weights or (self.pretrain and self.pretrain.epochs)),
            "the first stage freezes an encoder that nothing has trained: it needs weights or pretrain",
        )


def training_of(recipe: Recipe) -> Training:
    """What `recipe.training` says, defaults filled in. Raises UsageError MX-U007 with the rule it breaks."""
    table: dict[str, Any] = dict(recipe.training)
    for key, kind in (("loss", Loss), ("augment", Augment), ("pretrain", Pretrain)):
        if key in table:
            table[key] = from_table(kind, table[key], code="MX-U007", where=f"[training.{key}]")
    if "stages" in table:
        table["stages"] = tuple(_stage(entry) for entry in _list(table["stages"]))
    else:
        table["stages"] = STAGES[recipe.head.kind]
    training = from_table(Training, table, code="MX-U007", where="[training]")
    _require(
        recipe.head.conditional or all(stage.levels == LEVELS for stage in training.stages),
        f"a direct head answers for all levels at once: each stage's levels must be {list(LEVELS)}",
    )
    _require(
        not training.pretrain or recipe.backbone.kind == "cae",
        "pretrain: only an autoencoder (backbone kind 'cae') can draw what was hidden",
    )
    _require(
        not training.weights or recipe.backbone.kind == "timm", "weights: only timm's backbones take any"
    )
    return training


def with_epochs(recipe: Recipe, epochs: int) -> Recipe:
    """`recipe` with `epochs` in every stage; raises UsageError MX-U007 where that is no number of epochs."""
    stages = [replace(stage, epochs=epochs) for stage in training_of(recipe).stages]
    return replace(recipe, training={**recipe.training, "stages": [asdict(stage) for stage in stages]})


def _stage(entry: object) -> Stage:
    return from_table(Stage, entry, code="MX-U007", where="an entry of training.stages")


def _list(value: object) -> list[Any]:
    if not isinstance(value, list | tuple) or not all(isinstance(entry, Mapping) for entry in value):
        raise UsageError("MX-U007", "[training] stages is not an array of tables")
    return list(value)
