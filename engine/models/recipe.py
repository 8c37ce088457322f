"""What a model is: views, backbone, head, input. Everything needed to build it again, and nothing of torch.

A recipe comes from a TOML file or from inside a bundle, and part of it reaches constructors of other
libraries. So the settings of a backbone are a closed list: a recipe from elsewhere can name no file and no
address.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mxbatch.engine.archive.views import UNKNOWN_VIEW, VIEWS
from mxbatch.engine.decode.contract import InputContract
from mxbatch.engine.errors import UsageError
from mxbatch.engine.records import from_table, plain

BACKBONE_SETTINGS = {
    "timm": (
        "conv_mlp", "norm_layer", "drop_rate", "drop_path_rate", "proj_drop_rate", "global_pool", "img_size",
        "patch_size", "stem_type", "depths", "dims", "depth", "embed_dim", "num_heads", "mlp_ratio", "use_grn",
        "ls_init_value", "pool", "grid",
    ),
    "cae": ("widths", "latent", "pool", "grid"),
}  # fmt: skip
"""Kind of backbone -> the settings a recipe may give it."""
CONTRASTS = ("global", "local")
HEADS = ("hierarchical", "direct")

_VIEW_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Backbone:
    """What turns one radiograph into D features. In TOML, settings stand beside `kind` and `name`."""

    kind: str = "timm"
    name: str = "convnext_tiny"
    """timm: any of its architectures. cae: a word of your own, it shows in the model id."""
    contrast: str = "global"
    """One of `CONTRASTS`: whether it sees greys as they are, or against their surroundings (models/contrast.py)."""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require(
            self.contrast in CONTRASTS,
            f"backbone: contrast {self.contrast!r} is none of {', '.join(CONTRASTS)}",
        )
        _require(
            self.kind in BACKBONE_SETTINGS,
            f"backbone: kind {self.kind!r} is none of {', '.join(BACKBONE_SETTINGS)}",
        )
        _require(
            bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name)),
            f"backbone: {self.name!r} is no name of an architecture",
        )
        allowed = BACKBONE_SETTINGS[self.kind]
        for key, value in self.settings.items():
            _require(
                key in allowed,
                f"backbone: {self.kind} takes no setting '{key}'; it takes {', '.join(allowed)}",
            )
            items = value if isinstance(value, list | tuple) else [value]
            _require(
                all(isinstance(item, str | int | float) for item in items),
                f"backbone: {key} = {value!r} is neither a plain value nor a list of them",
            )

    def as_dict(self) -> dict[str, Any]:
        named = {"kind": self.kind, "name": self.name}
        if self.contrast != CONTRASTS[0]:  # bundles from before the key keep their ids
            named["contrast"] = self.contrast
        return {**named, **plain(self.settings)}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Backbone:
        named = {key: table[key] for key in ("kind", "name", "contrast") if key in table}
        settings = {key: value for key, value in table.items() if key not in named}
        return from_table(cls, {**named, "settings": settings}, code="MX-U007", where="backbone")


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """What turns the features of a specimen's radiographs into logits."""

    kind: str = "hierarchical"
    """hierarchical: a layer per level, each asking P(node | parent). direct: one layer asks P(node) of all."""
    width: int = 256
    """Channels of every layer of the head."""
    view_width: int = 64
    """Channels in which the head sees each view: of these it has a projection per view."""
    dropout: float = 0.1
    questions: bool = False
    """Before the first level, learn to answer what people were asked, the taxonomy's parameters one by one.

    "Abnormal" is one bit of an animal; the centre's answers say which of some fifty things it was.
    """

    def __post_init__(self) -> None:
        _require(self.kind in HEADS, f"head: kind {self.kind!r} is none of {', '.join(HEADS)}")
        _require(self.width >= 1, f"head: width is {self.width}, 1 is the least")
        _require(self.view_width >= 1, f"head: view_width is {self.view_width}, 1 is the least")
        _require(0 <= self.dropout < 1, f"head: dropout {self.dropout} is not in [0, 1)")

    @property
    def conditional(self) -> bool:
        """Whether its logits are those of P(node | parent); else of P(node) itself."""
        return self.kind == "hierarchical"


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A model's blueprint. Two recipes that differ in anything make two model ids."""

    name: str
    views: tuple[str, ...] = VIEWS
    """The views the model tells apart, whatever their names; all others are `unknown` to it."""
    max_radiographs: int = 8
    """T: how many radiographs of one specimen it looks at."""
    backbone: Backbone = field(default_factory=Backbone)
    head: Head = field(default_factory=Head)
    input: InputContract = field(default_factory=InputContract)
    training: Mapping[str, Any] = field(default_factory=dict)
    """The trainer's own table; the engine only keeps it."""

    def __post_init__(self) -> None:
        _require(bool(self.name), "a recipe needs a name")
        _require(bool(self.views), "views: a model needs one at least")
        _require(
            len(set(self.views)) == len(self.views), f"views: one is named twice in {', '.join(self.views)}"
        )
        for view in self.views:
            _require(
                bool(_VIEW_NAME.fullmatch(view)) and view != UNKNOWN_VIEW,
                f"views: {view!r} is no view's name (a-z, 0-9 and _, a letter first, not '{UNKNOWN_VIEW}')",
            )
        _require(self.max_radiographs >= 1, f"max_radiographs is {self.max_radiographs}, 1 is the least")

    def view_index(self, view: str | None) -> int:
        """The view's row in the view embedding: from 1 on for `views`, 0 for any other."""
        return self.views.index(view) + 1 if view in self.views else 0

    def as_dict(self) -> dict[str, Any]:
        """The recipe as TOML holds it, defaults spelled out: a later default must not change an old model."""
        return {
            "name": self.name,
            "views": list(self.views),
            "max_radiographs": self.max_radiographs,
            "backbone": self.backbone.as_dict(),
            "head": asdict(self.head),
            "input": plain(self.input.as_dict()),
            "training": plain(self.training),
        }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Recipe:
        """The inverse of `as_dict`; what is absent takes its default. Raises UsageError MX-U007."""
        parts: dict[str, Any] = dict(table)
        for key, build in _PARTS.items():
            if key in parts:
                if not isinstance(parts[key], Mapping):
                    raise UsageError("MX-U007", f"{key} is not a table")
                parts[key] = build(parts[key])
        return from_table(cls, parts, code="MX-U007", where="the recipe")


_PARTS = {
    "backbone": Backbone.from_dict,
    "head": lambda table: from_table(Head, table, code="MX-U007", where="head"),
    "input": InputContract.from_dict,
}


def _require(rule: bool, words: str) -> None:
    if not rule:
        raise UsageError("MX-U007", words)
