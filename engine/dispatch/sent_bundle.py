"""A bundle on its way to another machine: as it is where the path shows it there too, else once through Ray.

Ray's object store brings the bytes to a machine once, however many workers it has; the first of them unpacks
the files into the user's cache, under the name of their checksums, and the others find them there. Workers verify
every file as always when they open the bundle.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from mxbatch.engine.bundle_files import SUMS


def pack(bundle: Path) -> dict[str, bytes]:
    """The bundle's files by name."""
    return {path.name: path.read_bytes() for path in sorted(bundle.iterdir()) if path.is_file()}


def unpacked(path: Path, sent: Any) -> Path:
    """The bundle on this machine. `sent` is Ray's reference to its `pack`, fetched only where it is needed."""
    import ray

    if (path / SUMS).is_file():
        return path
    return unpack(ray.get(sent))


def unpack(files: dict[str, bytes]) -> Path:
    """The folder in the cache that holds `files`, written whole or not at all."""
    from mxbatch.engine.model_store import cache_folder

    folder = cache_folder() / "bundles" / f"sent-{hashlib.sha256(files[SUMS]).hexdigest()[:16]}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        for name, content in files.items():
            (scratch / name).write_bytes(content)
        try:
            scratch.rename(folder)
        except OSError:  # another worker was quicker
            shutil.rmtree(scratch, ignore_errors=True)
            if not folder.is_dir():
                raise
    os.utime(folder)
    return folder
