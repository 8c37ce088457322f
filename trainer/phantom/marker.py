"""What tells an archive of phantoms from a real one: of real animals nobody knows the truth."""

from __future__ import annotations

from pathlib import Path

TRUTH = "truth.csv"


def is_drawn(archive: Path) -> bool:
    """Whether the radiographs of `archive` are phantoms. A model that learned from them must say so."""
    return (archive / TRUTH).is_file()
