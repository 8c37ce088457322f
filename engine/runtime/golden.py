"""Golden numbers: a few pictures and specimens with the float32 results of the machine that wrote the bundle.

They travel in the bundle. Each runtime computes them again before it may score anything, at every slot of
its batch, so a wrong kernel, driver or precision is found before the first specimen and not in somebody's
paper.
"""

# M golden pictures · S side · D features · F specimens · T radiographs per specimen · K nodes

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.archive.views import VIEWS
from mxbatch.engine.decode.contract import InputContract
from mxbatch.engine.decode.plane import Plane
from mxbatch.engine.decode.prepare import prepare
from mxbatch.engine.drawing import draw_radiograph
from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.taxonomy import Taxonomy

if TYPE_CHECKING:
    from mxbatch.engine.bundle import Bundle
    from mxbatch.engine.models.hierarchical import HierarchicalModel
    from mxbatch.engine.models.recipe import Recipe
    from mxbatch.engine.runtime.scorer import Scorer

FILE = "golden.npz"
PICTURES = 4


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a runtime may be from the golden numbers."""

    features: float
    """Largest difference, as a share of the golden features' largest magnitude."""
    probabilities: float
    """Largest difference of a probability that is computed from the runtime's own features."""


TOLERANCES = {
    "float32": Tolerance(1e-3, 2e-3),
    "float16": Tolerance(1e-2, 0.02),
    "bfloat16": Tolerance(2e-2, 0.02),
    "int8": Tolerance(0.1, 0.02),
    "float8": Tolerance(0.2, 0.02),
}
"""By the precision in which the encoder computes. A right bfloat16 differs by 0.005 of the features' magnitude. int8
and float8 have to pass the gate, too (gate.py)."""
HEAD_TOLERANCE = 2e-3
"""Largest difference of a probability from the golden features: the head computes in float32 everywhere."""


def difference_key(precision: str) -> str:
    """The metric of a bundle that says how far off `precision` was on radiographs of its training: the largest
    difference of a probability to float32."""
    return f"{precision}_difference"


def too_coarse(bundle: Bundle, precision: str) -> str | None:
    """Why `bundle` is not to be computed in `precision`, by what its training has measured; None where it may be.

    A few golden pictures show a wrong kernel. How much rounding moves a model's calls takes hundreds of radiographs of
    the kind that it reads, and only the training has those.
    """
    found, allowed = (
        bundle.info["metrics"].get(difference_key(precision)),
        TOLERANCES[precision].probabilities,
    )
    if found is None or found <= allowed:
        return None
    return f"in {precision} its probabilities were off by up to {found:g} in training, allowed {allowed:g}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Golden:
    """`features` belong to `images`; `probabilities` to `features[tokens]`, `view_ids` and `mask`."""

    images: NDArray[np.uint8]
    """[M, S, S]"""
    features: NDArray[np.float32]
    """[M, D]"""
    tokens: NDArray[np.int64]
    """[F, T], which of the M pictures each radiograph is"""
    view_ids: NDArray[np.int64]
    """[F, T]"""
    mask: NDArray[np.bool_]
    """[F, T]"""
    probabilities: NDArray[np.float32]
    """[F, K]"""


def golden_images(size: int, seed: int = 0) -> NDArray[np.uint8]:
    """`uint8[M, S, S]`: drawn radiographs as a model sees them, windowed and padded."""
    contract = InputContract(size=size)
    views = VIEWS[:PICTURES]
    shape = {"height": size + size // 7, "width": size}
    drawn = (draw_radiograph(view, seed=PICTURES * seed + n, **shape) for n, view in enumerate(views))
    return np.stack([prepare(Plane((grey,), *grey.shape[::-1]), contract) for grey in drawn])


def golden_specimens(
    radiographs: int, views: int, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """`tokens, view_ids, mask`, each `[F, T]`: specimens with no radiograph, with 1, 2, 4 and all T."""
    rng = np.random.default_rng(seed)
    counts = np.minimum([0, 1, 1, 2, 4, radiographs], radiographs)
    shape = (len(counts), radiographs)
    mask = np.arange(radiographs) < counts[:, None]
    return rng.integers(0, PICTURES, shape), rng.integers(0, views + 1, shape), mask


def make_golden(
    model: HierarchicalModel,
    *,
    recipe: Recipe,
    taxonomy: Taxonomy,
    scale: tuple[float, ...],
    bias: tuple[float, ...],
) -> Golden:
    """The golden numbers of `model` (eval mode, float32, CPU) with the calibration `scale` and `bias`."""
    import torch

    from mxbatch.kernels.tree import probabilities

    images = golden_images(recipe.input.size)
    tokens, view_ids, mask = golden_specimens(recipe.max_radiographs, len(recipe.views))
    with torch.inference_mode():
        features_MD = model.encoder(torch.from_numpy(images)[:, None])
        logits_FK = model.head(
            features_MD[torch.from_numpy(tokens)], torch.from_numpy(view_ids), torch.from_numpy(mask)
        )
        probabilities_FK = probabilities(
            logits_FK,
            taxonomy.parents,
            torch.tensor(scale),
            torch.tensor(bias),
            conditional=recipe.head.conditional,
        )
    return Golden(
        images=images,
        features=features_MD.numpy(),
        tokens=tokens,
        view_ids=view_ids,
        mask=mask,
        probabilities=probabilities_FK.numpy(),
    )


def write_golden(folder: Path, golden: Golden) -> None:
    np.savez_compressed(folder / FILE, **{name: getattr(golden, name) for name in Golden.__slots__})


def read_golden(folder: Path) -> Golden:
    """The golden numbers of a bundle. Raises EnvironmentFault MX-M002. Never unpickles."""
    path = folder / FILE
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Golden(**{name: arrays[name] for name in Golden.__slots__})
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise EnvironmentFault("MX-M002", f"the golden numbers cannot be read: {error}", path=path) from error


def check_golden(scorer: Scorer, golden: Golden, path: Path) -> None:
    """Compute them with `scorer`. Raises EnvironmentFault MX-M003 with the largest difference."""
    tolerance = TOLERANCES[scorer.precision]
    count = len(golden.images)
    repeats = -(-max(count, scorer.batch) // scorer.batch) * scorer.batch
    order = np.arange(repeats) % count
    features = np.concatenate(
        [
            scorer.encode(golden.images[order[at : at + scorer.batch]])
            for at in range(0, repeats, scorer.batch)
        ]
    )
    scale = np.float32(np.abs(golden.features).max() or 1)
    _require_close(features / scale, golden.features[order] / scale, tolerance.features, "features", path)
    for given, allowed in ((golden.features, HEAD_TOLERANCE), (features, tolerance.probabilities)):
        got = scorer.fuse(given[golden.tokens], golden.view_ids, golden.mask)
        _require_close(got, golden.probabilities, allowed, "probabilities", path)


def _require_close(
    got: NDArray[np.floating[Any]], golden: NDArray[np.floating[Any]], tolerance: float, what: str, path: Path
) -> None:
    if got.shape != golden.shape:
        raise EnvironmentFault("MX-M003", f"{what} have the shape {got.shape}, not {golden.shape}", path=path)
    worst = float(np.abs(got - golden).max())
    if not worst <= tolerance:  # so that NaN fails, too
        raise EnvironmentFault(
            "MX-M003", f"golden {what} differ by {worst:.2g}, allowed {tolerance:g}", path=path
        )
