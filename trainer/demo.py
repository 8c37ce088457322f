"""`mxbatch demo`: a small archive of phantoms, scored with the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mxbatch.engine.errors import UsageError
from mxbatch.engine.model_store import REFERENCE
from mxbatch.engine.score import Summary, score
from mxbatch.trainer.phantom.archive import draw_archive
from mxbatch.trainer.phantom.marker import is_drawn

SEED, PREVALENCE = 12, 0.5
"""Half of the mice have a finding, so that a dozen shows what calls look like."""


def run_demo(folder: Path, *, specimens: int = 12, **options: Any) -> Summary:
    """Draw `folder/archive` and score it into `folder/out`; or go on with what is there.

    Raises UsageError when `folder` is something else.
    """
    archive = folder / "archive"
    if folder.exists() and not is_drawn(archive):
        raise UsageError("MX-U001", "this is no demo's folder", path=folder, fix="name a new folder")
    if not archive.exists():
        draw_archive(archive, specimens=specimens, seed=SEED, prevalence=PREVALENCE)
    return score(archive, folder / "out", model=REFERENCE, **options)
