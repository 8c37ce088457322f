"""A trained model on disk: a folder of plain files that says what it is and proves that it is whole.

    bundle.toml          identity, recipe, taxonomy, thresholds, calibration, where it came from
    weights.safetensors  the parameters of `build_model(recipe, taxonomy)`
    golden.npz           pictures with their reference outputs (runtime/golden.py)
    MODEL_CARD.md        the same for people
    SHA256SUMS           `sha256sum --check SHA256SUMS` says what `read_bundle` says

Nothing in it can run, so a bundle from elsewhere is safe to open. Reading needs no torch: the planner asks
for the model id in milliseconds. The id is computed from what the bundle holds, never believed: whoever
edits a threshold makes another model, and its calls are told apart from the old ones.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import platform
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mxbatch import __version__
from mxbatch.engine.bundle_files import CARD, CONTENT, MANIFEST, SUMS, WEIGHTS
from mxbatch.engine.calls import Thresholds, node_pairs
from mxbatch.engine.errors import EnvironmentFault, MxbatchError, UsageError, from_os_error
from mxbatch.engine.model_card import model_card
from mxbatch.engine.models.recipe import Backbone, Head, Recipe
from mxbatch.engine.provenance import LEARNED_FROM
from mxbatch.engine.taxonomy import Taxonomy, read_taxonomy

if TYPE_CHECKING:
    from mxbatch.engine.models.hierarchical import HierarchicalModel

FORMAT = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """P(node | parent) = sigmoid(scale * logit + bias), per node in the taxonomy's order."""

    scale: tuple[float, ...]
    bias: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.scale) != len(self.bias):
            raise UsageError("MX-U007", "calibration: as many scales as biases are needed")
        if (
            not all(math.isfinite(number) for number in self.scale + self.bias)
            or min(self.scale, default=1) <= 0
        ):
            raise UsageError("MX-U007", "calibration: numbers must be finite and scales positive")

    @classmethod
    def identity(cls, taxonomy: Taxonomy) -> Calibration:
        return cls(scale=(1.0,) * len(taxonomy.nodes), bias=(0.0,) * len(taxonomy.nodes))

    def as_dict(self, taxonomy: Taxonomy) -> dict[str, list[float]]:
        """`{node: [scale, bias]}`."""
        return {name: [s, b] for name, s, b in zip(taxonomy.names, self.scale, self.bias, strict=True)}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], taxonomy: Taxonomy) -> Calibration:
        """The inverse of `as_dict`. Raises UsageError MX-U007."""
        scale, bias = node_pairs(table, taxonomy, where="calibration")
        return cls(scale=scale, bias=bias)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """What a bundle says, without its weights."""

    path: Path
    model_id: str
    recipe: Recipe
    taxonomy: Taxonomy
    thresholds: Thresholds
    calibration: Calibration
    learned_from: str
    """A key of `provenance.LEARNED_FROM`."""
    info: Mapping[str, Any]
    """licence, training, metrics, versions, weights_sha256: for people. One of the metrics is for the engine, too: how
    far lower precisions were off in training (runtime/golden.py)."""


def read_bundle(path: Path) -> Bundle:
    """Read the bundle at `path` and check every one of its files.

    Raises UsageError MX-U004 (no bundle there), EnvironmentFault MX-M001 (a file differs from its checksum,
    or the content from its id), MX-M002 (a file is missing or unusable), MX-M004 (written by a later
    version).
    """
    if not (path / MANIFEST).is_file() and not (path / SUMS).is_file():
        raise UsageError("MX-U004", "there is no model bundle here", path=path)
    manifest = _manifest(path)
    if manifest.get("format") != FORMAT:
        raise EnvironmentFault(
            "MX-M004",
            f"the bundle has format {manifest.get('format')!r}, this mxbatch reads {FORMAT}",
            path=path,
        )
    sums = _verify(path)
    try:
        taxonomy = Taxonomy.from_dict(manifest["taxonomy"])
        parts: dict[str, Any] = {
            "recipe": Recipe.from_dict(manifest["recipe"]),
            "taxonomy": taxonomy,
            "thresholds": Thresholds.from_dict(manifest["thresholds"], taxonomy),
            "calibration": Calibration.from_dict(manifest["calibration"], taxonomy),
            "learned_from": _known_origin(manifest["learned_from"]),
        }
    except UsageError as error:
        raise EnvironmentFault("MX-M002", error.what, path=path / MANIFEST) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise EnvironmentFault("MX-M002", f"{MANIFEST} lacks or distorts {error}", path=path) from error
    model_id = identify(**parts, weights_sha256=sums[WEIGHTS])
    if manifest.get("model_id") != model_id:
        raise EnvironmentFault(
            "MX-M001",
            f"the content is that of {model_id}, the bundle calls itself {manifest.get('model_id')}",
            path=path,
        )
    info = {key: manifest.get(key, {}) for key in ("licence", "training", "metrics", "versions")}
    return Bundle(path=path, model_id=model_id, info={**info, "weights_sha256": sums[WEIGHTS]}, **parts)


def load_model(bundle: Bundle) -> HierarchicalModel:
    """The model with its weights, in eval mode, float32, on the CPU. Raises EnvironmentFault MX-M002."""
    import safetensors.torch
    from safetensors import SafetensorError

    from mxbatch.engine.models.hierarchical import build_model

    path = bundle.path / WEIGHTS
    try:
        model = build_model(bundle.recipe, bundle.taxonomy)
        model.load_state_dict(safetensors.torch.load_file(path))
    except (SafetensorError, RuntimeError, OSError, MxbatchError) as error:
        reason = error.what if isinstance(error, MxbatchError) else " ".join(str(error).split())
        raise EnvironmentFault(
            "MX-M002", f"the weights do not fit the recipe: {reason}", path=path
        ) from error
    return model.float().eval()


def write_bundle(
    path: Path,
    model: HierarchicalModel,
    *,
    recipe: Recipe,
    taxonomy: Taxonomy,
    thresholds: Thresholds | None = None,
    calibration: Calibration | None = None,
    learned_from: str = "radiographs",
    training: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    licence: str = "not stated",
) -> Bundle:
    """Write `model` as a new bundle, whole or not at all. `model`, its device and its mode stay as they are.

    Without thresholds every node gets 0.4 and 0.6, without calibration none is applied. `training` and
    `metrics` hold what TOML can hold. Raises UsageError MX-U001 where `path` exists, EnvironmentFault
    MX-E004 or MX-E005.
    """
    import safetensors.torch

    from mxbatch.engine.runtime.golden import make_golden, write_golden

    if path.exists():
        raise UsageError(
            "MX-U001", "the bundle would replace what is here", path=path, fix="name a new folder"
        )
    thresholds = thresholds or Thresholds.uniform(taxonomy)
    calibration = calibration or Calibration.identity(taxonomy)
    reference = copy.deepcopy(model).cpu().float().eval()
    weights = safetensors.torch.save(
        {name: tensor.contiguous() for name, tensor in reference.state_dict().items()}
    )
    content = {
        "recipe": recipe,
        "taxonomy": taxonomy,
        "thresholds": thresholds,
        "calibration": calibration,
        "learned_from": learned_from,
    }
    weights_sha256 = hashlib.sha256(weights).hexdigest()
    manifest = {
        "format": FORMAT,
        "model_id": identify(**content, weights_sha256=weights_sha256),  # type: ignore[arg-type]
        "learned_from": learned_from,
        **({"warning": warning} if (warning := LEARNED_FROM[learned_from].warning) else {}),
        "licence": licence,
        "versions": _versions(),
        "training": dict(training or {}),
        "metrics": dict(metrics or {}),
        "recipe": recipe.as_dict(),
        "thresholds": thresholds.as_dict(taxonomy),
        "calibration": calibration.as_dict(taxonomy),
        "taxonomy": taxonomy.as_dict(),
    }
    golden = make_golden(
        reference, recipe=recipe, taxonomy=taxonomy, scale=calibration.scale, bias=calibration.bias
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as scratch:
            folder = Path(scratch) / path.name
            folder.mkdir()
            (folder / WEIGHTS).write_bytes(weights)
            write_golden(folder, golden)
            (folder / MANIFEST).write_text(_toml(manifest), encoding="utf-8")
            (folder / CARD).write_text(model_card(manifest), encoding="utf-8")
            lines = [f"{_sha256(folder / name)}  {name}\n" for name in CONTENT]
            (folder / SUMS).write_text("".join(lines), encoding="utf-8")
            folder.rename(path)
    except OSError as error:
        raise from_os_error(error, path) from error
    return read_bundle(path)


def write_untrained(path: Path, *, recipe: Recipe | None = None, seed: int = 0) -> Bundle:
    """A small bundle of random weights, the same for the same seed, to try the engine with.

    Its calls mean nothing, and bundle.toml, the model card and the model id say so. They do differ between
    radiographs, so that every table looks alive: views are made equal, and a calibration spreads the rest.
    """
    import torch
    from torch import nn

    from mxbatch.engine.models.hierarchical import build_model

    if recipe is None:
        recipe = Recipe(name="untrained", backbone=Backbone(name="convnext_atto"), head=Head(width=128))
    taxonomy = read_taxonomy()
    model = build_model(recipe, taxonomy, seed=seed).eval()
    nn.init.zeros_(model.head.fusion.view_VW)
    by_view = [model.head.fusion.project_VDW, *(level.read_VWU for level in model.head.levels)]
    for weights in cast("list[torch.Tensor]", by_view):
        weights.data[:] = weights.data[:1].clone()
    return write_bundle(
        path,
        model,
        recipe=recipe,
        taxonomy=taxonomy,
        calibration=_spreading(model, recipe.input.size),
        learned_from="nothing",
        licence="Apache-2.0",
    )


def _spreading(model: HierarchicalModel, size: int) -> Calibration:
    """The calibration under which drawn specimens of one to four radiographs have logits of mean 0 and spread 2."""
    import numpy as np
    import torch

    from mxbatch.engine.runtime.golden import golden_images

    images = torch.from_numpy(np.concatenate([golden_images(size, seed) for seed in range(8)]))
    mask_NT = torch.arange(4) < torch.arange(len(images))[:, None] % 4 + 1
    tokens_NT = torch.arange(4) * 5 + torch.arange(len(images))[:, None]
    with torch.inference_mode():
        features_RD = model.encoder(images[:, None])
        features_NTD = features_RD[tokens_NT % len(images)]
        logits_NK = model.head(features_NTD, torch.zeros_like(tokens_NT), mask_NT)
    scale_K = 2 / logits_NK.std(dim=0).clamp(min=1e-6)
    bias_K = -scale_K * logits_NK.mean(dim=0)
    # Three digits: the model id should not hang on the last bit of a sum.
    scale, bias = (
        tuple(float(f"{number:.3g}") for number in part_K.tolist()) for part_K in (scale_K, bias_K)
    )
    return Calibration(scale=scale, bias=bias)


def identify(
    *,
    recipe: Recipe,
    taxonomy: Taxonomy,
    thresholds: Thresholds,
    calibration: Calibration,
    learned_from: str,
    weights_sha256: str,
) -> str:
    """The model id: readable in front, and a hash over all that decides what the model says."""
    content = {
        "recipe": recipe.as_dict(),
        "taxonomy": taxonomy.as_dict(),
        "thresholds": thresholds.as_dict(taxonomy),
        "calibration": calibration.as_dict(taxonomy),
        "weights": weights_sha256,
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    digest = hashlib.sha256(canonical.encode()).hexdigest()[:12]
    views = "mv" if len(recipe.views) > 1 else recipe.views[0]
    return f"{LEARNED_FROM[learned_from].prefix}{recipe.backbone.name}-{views}-{digest}"


def _known_origin(name: Any) -> str:
    if name not in LEARNED_FROM:
        raise UsageError("MX-U007", f"learned_from {name!r} is none of {', '.join(LEARNED_FROM)}")
    return str(name)


def _manifest(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EnvironmentFault("MX-M002", f"{MANIFEST} cannot be read: {error}", path=path) from error


def _verify(path: Path) -> dict[str, str]:
    """The checksums of all files, once each has been found to hold."""
    try:
        lines = (path / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise EnvironmentFault("MX-M002", f"{SUMS} cannot be read: {error}", path=path) from error
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for name in CONTENT:
        if name not in sums:
            raise EnvironmentFault("MX-M002", f"{SUMS} does not name {name}", path=path)
        try:
            found = _sha256(path / name)
        except OSError as error:
            raise EnvironmentFault("MX-M002", error.strerror or str(error), path=path / name) from error
        if found != sums[name]:
            raise EnvironmentFault("MX-M001", "the file differs from its checksum", path=path / name)
    return sums


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _toml(manifest: Mapping[str, Any]) -> str:
    import tomli_w

    note = "# Written by mxbatch. Edits are noticed: the model id is a hash of what stands here."
    return f"{note}\n\n{tomli_w.dumps(manifest)}"


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    libraries = {name: version(name) for name in ("torch", "timm", "numpy", "safetensors")}
    return {"mxbatch": __version__, "python": platform.python_version(), **libraries}
