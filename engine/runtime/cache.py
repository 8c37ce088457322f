"""The engine cache: what a runtime compiled from a bundle, for this machine, by this user.

    $XDG_CACHE_HOME/mxbatch/engines/            0700
        convnext_tiny-…-inductor-bfloat16-b16-3f2a9c1d5e8b7a60/
            engine.json                         what it was built for, a checksum of every file
            …                                   the runtime's own files
        speeds/….json                           what was measured here (speeds.py)
        passed/….json                           which calibrated engine may be used (gate.py)

An engine is native code. So it is loaded only from a folder that nobody else can write, and only if its
checksums hold; one that came from elsewhere has no way in. Its name holds a hash of all that it depends on: another
version, device or weight makes another name, and the old engine is simply not found. An entry is built
beside its place and renamed into it, under a lock: two processes that need one build one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mxbatch.engine.bundle import Bundle
from mxbatch.engine.errors import EnvironmentFault, from_os_error
from mxbatch.engine.machine import machine_facts
from mxbatch.engine.model_store import cache_folder
from mxbatch.engine.runtime.calibration import Sample
from mxbatch.engine.runtime.encoder import Encoder, EngineSpec, Note, Runtime

FORMAT = 3
"""Of the engines themselves: raised whenever mxbatch builds or calls them differently."""
MANIFEST = "engine.json"
_OWN = "take their permission away (chmod 0700), or set XDG_CACHE_HOME to a folder of your own"


def engines_folder() -> Path:
    """Where engines are kept by default; it need not exist."""
    return cache_folder() / "engines"


def require_own_folder(folder: Path) -> None:
    """Create `folder` for this user alone, or show that it is.

    Raises EnvironmentFault MX-E012 where others can write to it, MX-E005 where this user cannot.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = folder.stat()
    except OSError as error:
        raise from_os_error(error, folder) from None
    if state.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or state.st_uid not in (os.geteuid(), 0):
        what = "others can write here, and engines are native code"
        raise EnvironmentFault("MX-E012", what, path=folder, fix=_OWN)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise EnvironmentFault("MX-E005", "the engine cache cannot be written", path=folder)


def engine_facts(bundle: Bundle, runtime: Runtime, spec: EngineSpec) -> dict[str, Any]:
    """All that an engine depends on, as plain data. Imports no library."""
    return {
        "format": FORMAT,
        "weights": bundle.info["weights_sha256"],
        "recipe": bundle.recipe.as_dict(),
        "runtime": runtime.name,
        "precision": spec.precision,
        "batch": spec.batch,
        "device": spec.device.partition(":")[0],
        "machine": machine_facts(spec.device),
        "sample": spec.sample,
        "versions": {name: installed(name) for name in runtime.distributions},
    }


def entry_path(folder: Path, bundle: Bundle, runtime: Runtime, spec: EngineSpec) -> Path:
    """The place of one engine: readable in front, and a hash over `engine_facts`."""
    facts = engine_facts(bundle, runtime, spec)
    name = f"{bundle.recipe.backbone.name}-{spec.device.partition(':')[0]}-{runtime.name}-{spec.precision}"
    return folder / f"{name}-b{spec.batch}-{digest(facts)}"


def load_engine(
    bundle: Bundle,
    runtime: Runtime,
    spec: EngineSpec,
    *,
    folder: Path,
    threads: int,
    note: Note,
    sample: Sample | None = None,
) -> Encoder:
    """The encoder of `bundle` in `runtime`, built first where it is not in the cache at `folder`.

    A damaged entry is moved aside and built again, once; `sample` is what it is calibrated on, if it has to be.
    Raises EnvironmentFault MX-M005 where that does not help, MX-M006 where it cannot be built, MX-E005 or MX-E012 for
    the folder itself.
    """
    if runtime.build is None:
        return runtime.load(bundle, spec, folder, threads)
    require_own_folder(folder)
    entry = entry_path(folder, bundle, runtime, spec)
    built = _ensure(entry, bundle, runtime, spec, note, sample)
    try:
        return _load(entry, bundle, runtime, spec, threads)
    except EnvironmentFault as error:
        if error.code != "MX-M005":
            raise
        if spec.sample and sample is None:  # there is nothing here to calibrate it on again
            raise
        note(f"the compiled encoder in the cache is damaged ({error.what}): building it again")
    _remove(entry, built, note)
    _ensure(entry, bundle, runtime, spec, note, sample)
    return _load(entry, bundle, runtime, spec, threads)


def _load(entry: Path, bundle: Bundle, runtime: Runtime, spec: EngineSpec, threads: int) -> Encoder:
    verify(entry)
    return runtime.load(bundle, spec, entry, threads)


def discard(entry: Path, note: Note) -> None:
    """Remove what was built and turned out to be of no use."""
    with suppress(FileNotFoundError):
        _remove(entry, entry.stat().st_ino, note)


def _ensure(
    entry: Path, bundle: Bundle, runtime: Runtime, spec: EngineSpec, note: Note, sample: Sample | None
) -> int:
    """See that `entry` is there, by this process or by another; the inode of what is there."""
    with suppress(FileNotFoundError):
        return entry.stat().st_ino
    with _lock(entry, note):
        if entry.is_dir():  # another process was quicker
            return entry.stat().st_ino
        for left in entry.parent.glob(f".{entry.name}.*"):  # of a build that was killed
            shutil.rmtree(left, ignore_errors=True)
        try:
            scratch = Path(tempfile.mkdtemp(prefix=f".{entry.name}.", dir=entry.parent))
        except OSError as error:
            raise from_os_error(error, entry.parent) from None
        try:
            _build(scratch, bundle, runtime, spec, note, sample)
            scratch.rename(entry)
            return entry.stat().st_ino
        except OSError as error:
            raise from_os_error(error, entry) from None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _build(
    folder: Path, bundle: Bundle, runtime: Runtime, spec: EngineSpec, note: Note, sample: Sample | None
) -> None:
    import torch

    if runtime.build is None:
        raise ValueError(f"{runtime.name} has nothing to build")
    try:
        runtime.build(bundle, spec, folder, note, sample)
    except (EnvironmentFault, OSError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a compiler's exceptions have no common base; all mean the same
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        what = f"{runtime.name} cannot build the encoder in {spec.precision}: {reason}"
        raise EnvironmentFault("MX-M006", what, path=bundle.path) from error
    sums = {name: _sha256(folder / name) for name in _files(folder)}
    manifest = {"facts": engine_facts(bundle, runtime, spec), "sha256": sums}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def verify(entry: Path) -> None:
    """Raises EnvironmentFault MX-M005 unless the files are those that were built, MX-E012 where others can write."""
    state = entry.stat()
    if state.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or state.st_uid not in (os.geteuid(), 0):
        raise EnvironmentFault("MX-E012", "others can write to this engine", path=entry, fix=_OWN)
    try:
        sums = json.loads((entry / MANIFEST).read_text(encoding="utf-8"))["sha256"]
        for name in sorted({*sums, *_files(entry)}):
            if name not in sums or _sha256(entry / name) != sums[name]:
                raise EnvironmentFault("MX-M005", f"{name} differs from its checksum", path=entry)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EnvironmentFault("MX-M005", f"the engine cannot be read: {error}", path=entry) from error


def _files(folder: Path) -> list[str]:
    """Every file under `folder` but the manifest, from it, posix."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return sorted(name for name in found if name != MANIFEST)


def _remove(entry: Path, inode: int, note: Note) -> None:
    """Move aside and delete what was found damaged, unless another process has replaced it since."""
    with _lock(entry, note):
        aside = entry.with_name(f".{entry.name}.damaged")
        try:
            if entry.stat().st_ino == inode:
                entry.rename(aside)
        except FileNotFoundError:
            return
        except OSError as error:
            raise from_os_error(error, entry) from None
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _lock(entry: Path, note: Note) -> Iterator[None]:
    """Hold the right to build `entry`; wait while another process builds it. The kernel lets go with the process."""
    path = entry.parent / ".lock"
    try:
        handle = path.open("a")
    except OSError as error:
        raise from_os_error(error, path) from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            note("another process is compiling: waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def installed(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def digest(facts: Any) -> str:
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
