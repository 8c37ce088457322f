"""From a recipe and an archive to a bundle: the trainer's road from end to end.

    archive → labels, split, decoded images → fit → calibration and thresholds → bundle

What happens on the way lies in the run's folder (metrics.csv, curves.png, split.csv, the checkpoint), so the same
command again resumes. The bundle appears at the end, whole, or not at all.
"""

# N specimens · K nodes

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mxbatch.engine.bundle import Bundle, write_bundle
from mxbatch.engine.errors import UsageError, from_os_error
from mxbatch.engine.models.recipe import Recipe
from mxbatch.engine.runtime.golden import difference_key
from mxbatch.engine.taxonomy import read_taxonomy
from mxbatch.kernels.tree import probabilities
from mxbatch.trainer.calibrate import calibrate
from mxbatch.trainer.data import Dataset, load_dataset
from mxbatch.trainer.extras import require_extras
from mxbatch.trainer.fit import fit
from mxbatch.trainer.initial_weights import with_named_weights
from mxbatch.trainer.kept import KEEP_GB
from mxbatch.trainer.metrics import mean_auc
from mxbatch.trainer.phantom.marker import is_drawn
from mxbatch.trainer.precision import in_bfloat16
from mxbatch.trainer.predict import predict_logits, predict_showings
from mxbatch.trainer.progress import Display, silent
from mxbatch.trainer.recipes import find_recipe
from mxbatch.trainer.splits import Split, read_split, require_positives, split, write_split
from mxbatch.trainer.team import is_first
from mxbatch.trainer.thresholds import choose_thresholds
from mxbatch.trainer.training import training_of, with_epochs

SPLIT_FILE = "split.csv"
COMPARED = 500
"""Specimens of the validation side whose probabilities in bfloat16 are laid beside those in float32."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """What a training made, and how good it is on animal lines that it never saw."""

    bundle: Bundle
    run: Path
    test_auc: dict[int, float]
    """Level -> mean AUC on the test part of the split, marginal; NaN where nothing could be measured."""

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "model_id": self.bundle.model_id,
            "bundle": str(self.bundle.path),
            "run": str(self.run),
            "metrics": dict(self.bundle.info["metrics"]),
        }


def train(
    recipe: str | Path,
    archive: Path,
    out: Path,
    *,
    run: Path | None = None,
    scores: Path | None = None,
    taxonomy: Path | None = None,
    split_file: Path | None = None,
    leave_out: str | None = None,
    epochs: int | None = None,
    device: str = "auto",
    keep_decoded: float = KEEP_GB,
    licence: str = "not stated",
    display: Display = silent,
) -> Trained | None:
    """Train `recipe` (a name of `mxbatch recipes`, or a file) on `archive` and write the bundle `out`.

    `run` is the folder of what happens on the way, by default `<out>-run`. `scores` is IMPC's table of answers, by
    default `experiment.csv` in the archive. `split_file` brings a split; else colonies are split, or the centre
    `leave_out` is the test. `epochs` takes the place of the recipe's, in each of its stages. `keep_decoded` is how many
    GB of decoded radiographs may stay in the user's cache, other archives' among them.

    Under `torchrun` the first process writes, calibrates and says what it made; the others are done when the weights
    are, and get None.

    Raises UsageError MX-U001 (`out` exists, no such centre, a library is missing), MX-U007 (the recipe), MX-T001 (no
    labels), MX-T002 (a class without a positive), MX-T003 (a colony on two sides), MX-T005 (the run is another's);
    EnvironmentFault MX-T004 (the loss is no number). Then there is no bundle, and the run's folder holds what was
    learned so far.
    """
    require_extras()
    display = display if is_first() else silent
    if out.exists():
        raise UsageError(
            "MX-U001", "the bundle would replace what is here", path=out, fix="name a new folder"
        )
    tree, blueprint = read_taxonomy(taxonomy), find_recipe(recipe)
    if epochs is not None:
        blueprint = with_epochs(blueprint, epochs)
    training, stored = training_of(blueprint), with_named_weights(blueprint)
    dataset = load_dataset(
        archive, blueprint, tree, scores=scores, keep_decoded=keep_decoded, note=display.note
    )
    parts = (
        read_split(split_file, dataset.keys, dataset.colonies)
        if split_file
        else split(
            dataset.colonies, dataset.labels, seed=training.seed, centres=dataset.centres, leave_out=leave_out
        )
    )
    require_positives(parts, dataset.labels, tree)
    folder = run or out.with_name(f"{out.name}-run")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise from_os_error(error, folder) from error
    if is_first():
        write_split(folder / SPLIT_FILE, parts, dataset.keys)
    model = fit(blueprint, dataset, parts, tree, folder, device=device, display=display)
    if not is_first():
        return None

    def logits_of(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return predict_logits(model, dataset, rows, radiographs=blueprint.max_radiographs)

    def probabilities_of(logits_NK: NDArray[np.float32]) -> NDArray[np.float32]:
        scale_K, bias_K = torch.tensor(calibration.scale), torch.tensor(calibration.bias)
        given = (torch.from_numpy(logits_NK), tree.parents, scale_K, bias_K)
        p_NK: NDArray[np.float32] = probabilities(*given, conditional=conditional).numpy()
        return p_NK

    conditional = blueprint.head.conditional
    logits_NK, labels_NK = logits_of(parts.validation), dataset.labels[parts.validation]
    shown = predict_showings(
        model, dataset, parts.validation, logits_NK, radiographs=blueprint.max_radiographs
    )
    calibration = calibrate(
        shown.logits_SK,
        labels_NK[shown.rows_S],
        tree,
        conditional=conditional,
        weights_N=shown.weights_S,
    )
    choice = choose_thresholds(probabilities_of(logits_NK), labels_NK, tree)
    some = parts.validation[:COMPARED]
    rounded_NK = predict_logits(in_bfloat16(model), dataset, some, radiographs=blueprint.max_radiographs)
    difference_NK = probabilities_of(rounded_NK) - probabilities_of(logits_NK[: len(some)])
    auc = mean_auc(probabilities_of(logits_of(parts.test)), dataset.labels[parts.test], tree)
    bundle = write_bundle(
        out,
        model,
        recipe=stored,
        taxonomy=tree,
        thresholds=choice.thresholds,
        calibration=calibration,
        learned_from="phantoms" if is_drawn(archive) else "radiographs",
        training={
            **_data_card(archive, dataset, parts),
            **_begun_with(stored),
            "thresholds": choice.as_dict(),
        },
        metrics={
            **{f"test_auc_l{level}": round(value, 4) for level, value in auc.items() if not np.isnan(value)},
            difference_key("bfloat16"): round(float(np.abs(difference_NK).max(initial=0.0)), 4),
        },
        licence=training.weights_licence or licence,
    )
    return Trained(bundle=bundle, run=folder, test_auc=auc)


def _begun_with(stored: Recipe) -> dict[str, Any]:
    """The file of weights that training began with, if any, for the bundle."""
    training = training_of(stored)
    if not training.weights:
        return {}
    said = {"file": training.weights, "sha256": training.weights_sha256, "licence": training.weights_licence}
    return {"initial_weights": said}


def _data_card(archive: Path, dataset: Dataset, parts: Split) -> dict[str, Any]:
    """What the model has learned from, for the bundle; plain values."""
    return {
        "archive": Path(os.path.abspath(archive)).name,  # of `.` and `..`, too
        "fingerprint": dataset.fingerprint,
        "centres": sorted(set(dataset.centres)),
        "radiographs": len(dataset.images),
        "specimens": {side: len(rows) for side, rows in parts.sides.items()},
        "abnormal": {side: int((dataset.labels[rows, 0] == 1).sum()) for side, rows in parts.sides.items()},
    }
