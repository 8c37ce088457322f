"""metrics.csv: what every epoch cost and taught, a row each, for people, spreadsheets and the curves."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mxbatch.engine.storage import write_atomically
from mxbatch.engine.taxonomy import LEVELS

Row = dict[str, Any]
UNITS = ("specimens", "radiographs")
"""What a step looks at, with labels and without."""
COLUMNS = (
    "stage",
    "epoch",
    "learning_rate",
    "loss",
    "loss_drawing",
    *(f"loss_l{level}" for level in LEVELS),
    "loss_questions",
    "validation_loss",
    *(f"auc_l{level}" for level in LEVELS),
    "seconds",
    *(f"{unit}_per_s" for unit in UNITS),
)
"""`auc_*` are means over the nodes of a level, marginal, on the validation side, by the running mean of the weights."""


def write_history(run: Path, rows: Sequence[Row]) -> None:
    """Replace `run`/metrics.csv, whole or not at all. Cells of what an epoch does not have are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{v:.6g}" if isinstance(v, float) else v for name, v in row.items()})
    write_atomically(run / "metrics.csv", text.getvalue().encode())
