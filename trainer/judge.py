"""What a bundle says of a labelled archive, by the engine's own runtime: what is evaluated is what scores."""

# N specimens · T radiographs of one · R radiographs · B the encoder's batch · D features · K nodes · S side

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.bundle import Bundle
from mxbatch.engine.errors import UsageError
from mxbatch.engine.machine import choose_crew
from mxbatch.engine.models.recipe import Recipe
from mxbatch.engine.runtime.scorer import Scorer, open_scorer
from mxbatch.trainer.bootstrap import group_lines
from mxbatch.trainer.data import Dataset, batch, load_dataset
from mxbatch.trainer.kept import KEEP_GB
from mxbatch.trainer.phantom.truth import drawn_labels

SPECIMENS = 64
"""Per step: enough to fill the encoder's batches, few enough to keep their pictures in memory."""

Key = tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """One bundle's probabilities beside the truth."""

    bundle: Bundle
    views: tuple[str, ...]
    """The views that it was shown: the recipe's, or those of them that the evaluation was limited to."""
    keys: tuple[Key, ...]
    colonies: tuple[str, ...]
    p_NK: NDArray[np.float32]
    labels_NK: NDArray[np.float32]
    radiographs: int
    quarantined: int
    """Radiographs of the archive that could not be used."""
    left_out: int
    """Specimens that were asked for and have no usable radiograph of these views."""
    unlabelled: int
    """Specimens that were asked for and of which nothing is known."""

    @property
    def groups_N(self) -> NDArray[np.int64]:
        """Animal lines, as the bootstrap draws them."""
        return group_lines(self.colonies)

    def as_dict(self) -> dict[str, Any]:
        """Which model saw what, for metrics.json."""
        bundle = self.bundle
        return {
            "model_id": bundle.model_id,
            "recipe": bundle.recipe.name,
            "backbone": bundle.recipe.backbone.name,
            "head": bundle.recipe.head.kind,
            "views": list(self.views),
            "learned_from": bundle.learned_from,
            "specimens": len(self.keys),
            "animal_lines": int(self.groups_N.max(initial=-1)) + 1,
            "radiographs": self.radiographs,
            "left_out": self.left_out,
            "unlabelled": self.unlabelled,
            "quarantined": self.quarantined,
            "thresholds": bundle.thresholds.as_dict(bundle.taxonomy),
        }

    def only(self, keys: Collection[Key]) -> Judged:
        """Those of `keys` that are here, in the order of `keys`: the same rows for every model that is compared."""
        place = {key: n for n, key in enumerate(self.keys)}
        rows = [place[key] for key in keys if key in place]
        return replace(
            self,
            keys=tuple(self.keys[n] for n in rows),
            colonies=tuple(self.colonies[n] for n in rows),
            p_NK=self.p_NK[rows],
            labels_NK=self.labels_NK[rows],
        )


def judge(
    bundle: Bundle,
    archive: Path,
    *,
    scores: Path | None = None,
    views: Sequence[str] | None = None,
    subset: Collection[Key] | None = None,
    truth: bool = False,
    unnamed: bool = False,
    device: str = "auto",
    keep_decoded: float = KEEP_GB,
    note: Callable[[str], None] | None = None,
) -> Judged:
    """Score the labelled specimens of `archive`, or those of them whose key is in `subset`.

    `views` limits the model to some of its own. With `truth`, phantoms are labelled by what was drawn and not by what
    their scorers answered. With `unnamed` the model sees the same radiographs and is not told which view each shows.
    `keep_decoded`: as in `load_dataset`. Raises UsageError MX-U001 for a view that it does not know or a `subset` of
    which the archive has nothing, MX-T001 for an archive without labels, and what `load_dataset` and `open_scorer`
    raise.
    """
    recipe = bundle.recipe
    shown = tuple(recipe.views if views is None else dict.fromkeys(views))
    if unknown := [view for view in shown if view not in recipe.views]:
        raise UsageError(
            "MX-U001", f"{bundle.model_id} knows no view {unknown[0]!r}; it knows {', '.join(recipe.views)}"
        )
    dataset = load_dataset(
        archive, recipe, bundle.taxonomy, scores=scores, keep_decoded=keep_decoded, note=note
    )
    if truth:
        dataset = replace(dataset, labels=drawn_labels(archive, dataset.keys, bundle.taxonomy))
    asked = np.array([subset is None or key in subset for key in dataset.keys], np.bool_)
    known = ~np.isnan(dataset.labels).all(axis=1)
    seen = np.isin(dataset.views, [recipe.view_index(view) for view in shown])
    has_view = np.array(
        [seen[a:b].any() for a, b in zip(dataset.first, dataset.first[1:], strict=False)], np.bool_
    )
    specimens = np.flatnonzero(asked & has_view & known)
    if not len(specimens):
        what = f"no specimen that was asked for has a label and a view of {', '.join(shown)}"
        raise UsageError("MX-U001", what, path=archive)
    absent = dataset.left_out if subset is None else len(set(subset).difference(dataset.keys))
    crew = choose_crew(device, workers=1)
    scorer = open_scorer(
        bundle, device=crew.devices[0], batch=crew.batch, threads=len(os.sched_getaffinity(0))
    )
    return Judged(
        bundle=bundle,
        views=shown,
        keys=tuple(dataset.keys[n] for n in specimens),
        colonies=tuple(dataset.colonies[n] for n in specimens),
        p_NK=probabilities(scorer, dataset, specimens, recipe, shown, unnamed=unnamed),
        labels_NK=dataset.labels[specimens],
        radiographs=int(sum(seen[dataset.first[n] : dataset.first[n + 1]].sum() for n in specimens)),
        quarantined=len(dataset.quarantined),
        left_out=int((asked & ~has_view).sum()) + absent,
        unlabelled=int((asked & has_view & ~known).sum()),
    )


def probabilities(
    scorer: Scorer,
    dataset: Dataset,
    specimens: NDArray[np.int64],
    recipe: Recipe,
    views: Collection[str],
    *,
    unnamed: bool = False,
) -> NDArray[np.float32]:
    """Path probabilities `float32[N, K]`, in the order of `specimens`; radiographs of other views stay unseen."""
    shown = [recipe.view_index(view) for view in views]
    blocks = []
    for start in range(0, len(specimens), SPECIMENS):
        images_NT1SS, view_ids_NT, mask_NT, _ = batch(
            dataset, specimens[start : start + SPECIMENS], radiographs=recipe.max_radiographs
        )
        mask_NT = mask_NT & np.isin(view_ids_NT, shown)
        features_NTD = np.zeros((*mask_NT.shape, scorer.feature_dim), np.float32)
        features_NTD[mask_NT] = encode_all(scorer, images_NT1SS[mask_NT, 0])
        told_NT = np.zeros_like(view_ids_NT) if unnamed else view_ids_NT
        blocks.append(scorer.fuse(features_NTD, told_NT, mask_NT))
    return np.concatenate(blocks)


def encode_all(scorer: Scorer, images_RSS: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Features `float32[R, D]` of any number of pictures, in the scorer's batches; the last one is padded."""
    features_RD = np.zeros((len(images_RSS), scorer.feature_dim), np.float32)
    batch_BSS = np.zeros((scorer.batch, *images_RSS.shape[1:]), np.uint8)
    for start in range(0, len(images_RSS), scorer.batch):
        pictures = images_RSS[start : start + scorer.batch]
        batch_BSS[: len(pictures)] = pictures
        features_RD[start : start + len(pictures)] = scorer.encode(batch_BSS)[: len(pictures)]
    return features_RD
