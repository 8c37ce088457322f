"""Which bundle a run uses: a folder, the reference that comes with mxbatch, or the untrained example.

The reference has learned from phantoms: it shows what calls look like, and every place that shows them says so. The
untrained example has seen nothing; it is made once and kept in the user's cache.
"""

from __future__ import annotations

import os
from pathlib import Path

from mxbatch import __version__
from mxbatch.engine.bundle import FORMAT, Bundle, read_bundle, write_untrained
from mxbatch.engine.errors import EnvironmentFault, MxbatchError

REFERENCE, UNTRAINED = "reference", "untrained"
"""Words that `--model` takes beside a folder."""
SHIPPED = Path(__file__).with_name(REFERENCE)
"""Rebuilt from nothing by `make reference`."""


def resolve_model(model: Path | str | None) -> Bundle:
    """The bundle that `model` names, else the one in `MXBATCH_MODEL`, else the reference; its files verified.

    Raises UsageError (MX-U004) when nothing is there, EnvironmentFault (MX-M0nn) when the bundle is damaged.
    """
    named = str(model or os.environ.get("MXBATCH_MODEL") or REFERENCE)
    if named == REFERENCE:
        return read_bundle(SHIPPED)
    if named == UNTRAINED:
        return untrained()
    return read_bundle(Path(named).expanduser().absolute())


def untrained() -> Bundle:
    """The seeded, untrained example. It shows the engine at work; its calls mean nothing."""
    path = cache_folder() / "bundles" / f"{UNTRAINED}-{__version__}-{FORMAT}"
    if not path.is_dir():
        try:
            return write_untrained(path)
        except MxbatchError as error:
            if not path.is_dir():  # else another process was quicker
                fix = "set XDG_CACHE_HOME to a folder that can be written"
                raise EnvironmentFault(error.code, error.what, path=error.path, fix=fix) from None
    return read_bundle(path)


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/mxbatch`, by default `~/.cache/mxbatch`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mxbatch"
