"""`mxbatch info`: facts that need no model and no torch."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from mxbatch import __version__
from mxbatch.engine.archive.views import VIEWS
from mxbatch.engine.decode.radiograph import FORMATS
from mxbatch.engine.flags import FLAGS
from mxbatch.engine.taxonomy import read_taxonomy


def facts() -> dict[str, Any]:
    taxonomy = read_taxonomy()
    return {
        "version": __version__,
        "views": list(VIEWS),
        "formats": {name: form.holds for name, form in FORMATS.items()},
        "taxonomy": {
            "name": taxonomy.name,
            "version": taxonomy.version,
            "nodes": [
                {
                    "name": node.name,
                    "level": node.level,
                    "parent": node.parent,
                    "title": node.title,
                    "mp": node.mp,
                }
                for node in taxonomy.nodes
            ],
        },
        "flags": FLAGS,
    }


def versions() -> dict[str, str]:
    """Of what decides over a run's numbers. Read from the installed packages' metadata, which costs no import."""
    names = ("torch", "timm", "numpy", "pyarrow", "simplejpeg", "pillow", "pydicom")
    return {"mxbatch": __version__, **{name: version(name) for name in names}}
