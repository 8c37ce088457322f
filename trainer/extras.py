"""What training and evaluation need beyond scoring: asked for before hours are spent, not after."""

from __future__ import annotations

from importlib.util import find_spec

from mxbatch.engine.errors import UsageError

NEEDED = ("matplotlib", "scipy", "sklearn")
"""Imported late, by curves.py and plots.py, and by calibrate.py."""


def require_extras() -> None:
    """Raise UsageError MX-U001 where one of `NEEDED` is not installed."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise UsageError(
            "MX-U001", f"{', '.join(missing)} cannot be imported", fix="pip install 'mxbatch[train]'"
        )
