"""What is truly wrong with phantoms, as labels. Their scorers err, as people do; no model should be blamed for that."""

# N specimens · K nodes

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.errors import UsageError, from_os_error
from mxbatch.engine.taxonomy import Taxonomy
from mxbatch.trainer.phantom.marker import TRUTH, is_drawn


def drawn_labels(archive: Path, keys: Sequence[tuple[str, ...]], taxonomy: Taxonomy) -> NDArray[np.float32]:
    """`float32[N, K]`, 1 where a finding of that class was drawn, else 0: nothing is missing.

    `keys` are those of the index, centre and specimen first. Raises UsageError MX-U001 where `archive` was not drawn,
    or by another taxonomy; EnvironmentFault where its truth cannot be read.
    """
    if not is_drawn(archive):
        what = "the truth is known of phantoms alone, and these are none"
        raise UsageError("MX-U001", what, path=archive, fix="leave --truth out")
    rows_of: dict[tuple[str, ...], list[int]] = {}
    for row, key in enumerate(keys):
        rows_of.setdefault(key[:2], []).append(row)
    labels_NK = np.zeros((len(keys), len(taxonomy.nodes)), np.float32)
    try:
        with (archive / TRUTH).open(newline="", encoding="utf-8") as file:
            findings = [
                ((line["phenotyping_center"], line["external_sample_id"]), line["node"])
                for line in csv.DictReader(file)
            ]
    except OSError as error:
        raise from_os_error(error, archive / TRUTH) from None
    parents = taxonomy.parents
    place = {name: number for number, name in enumerate(taxonomy.names)}
    for animal, name in findings:
        if name not in place:
            raise UsageError("MX-U001", f"the taxonomy has no class {name!r}", path=archive / TRUTH)
        node = place[name]
        while node >= 0:
            labels_NK[rows_of.get(animal, []), node] = 1
            node = parents[node]
    return labels_NK
