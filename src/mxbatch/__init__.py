"""mxbatch reads a mouse phenotyping centre's whole X-ray archive: one row of calls per specimen, in Parquet.

>>> import mxbatch
>>> summary = mxbatch.score("archive", "mxbatch-out", model="untrained")     # doctest: +SKIP
>>> mxbatch.read_calls("mxbatch-out").to_pylist()                            # doctest: +SKIP

Names are loaded when they are first used, so that `import mxbatch` costs milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mxbatch.engine.archive.index import Archive as Archive
    from mxbatch.engine.archive.open import open_archive as open_archive
    from mxbatch.engine.bundle import Bundle as Bundle
    from mxbatch.engine.bundle import read_bundle as read_bundle
    from mxbatch.engine.errors import EnvironmentFault as EnvironmentFault
    from mxbatch.engine.errors import MxbatchError as MxbatchError
    from mxbatch.engine.errors import OutputLocked as OutputLocked
    from mxbatch.engine.errors import RadiographError as RadiographError
    from mxbatch.engine.errors import UsageError as UsageError
    from mxbatch.engine.results import read_calls as read_calls
    from mxbatch.engine.results import read_quarantine as read_quarantine
    from mxbatch.engine.score import Summary as Summary
    from mxbatch.engine.score import score as score

__version__ = "0.1.0"

_ROOMS = {
    "Archive": "archive.index",
    "Bundle": "bundle",
    "EnvironmentFault": "errors",
    "MxbatchError": "errors",
    "OutputLocked": "errors",
    "RadiographError": "errors",
    "Summary": "score",
    "UsageError": "errors",
    "open_archive": "archive.open",
    "read_bundle": "bundle",
    "read_calls": "results",
    "read_quarantine": "results",
    "score": "score",
}

__all__ = sorted(_ROOMS)


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'mxbatch' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"mxbatch.engine.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
