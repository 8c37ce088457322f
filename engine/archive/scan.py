"""Walks an archive's folders: one entry per thing found, and none twice.

Nothing here knows what a radiograph is. What the operating system refuses becomes an entry with a code; only
the root itself can raise. `os.scandir` is read folder by folder, so memory holds the entries and one listing.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mxbatch.engine.errors import EnvironmentFault

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".dcm", ".dicom")
"""Names that promise an image. Only where nothing else places a file; its format is read from its bytes."""

_OUTPUT_NAMES = {"calls", "quarantine", "runs", "report.html"}
_BUNDLE_FILE = "bundle.toml"
_NO_TARGET = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Entry(NamedTuple):
    """A file, or what stands where one should be. `folder` and `name` are UTF-8 whatever the disk holds."""

    folder: str
    """From the root, posix; empty for the root itself."""
    name: str
    size: int | None = None
    mtime_ns: int | None = None
    code: str | None = None
    reason: str | None = None

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.name}" if self.folder else self.name


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """What a walk found, folder by folder, names sorted within each."""

    entries: list[Entry]
    notes: tuple[str, ...]


def looks_like_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def check_root(root: Path) -> None:
    """Raises `EnvironmentFault`: MX-E001 when `root` is no folder, MX-E003 when it may not be listed."""
    try:
        os.scandir(root).close()
    except OSError as error:
        raise _root_fault(root, error) from error


def scan(root: Path, *, leave_out: Callable[[str, str], bool] = lambda parent, name: False) -> Scan:
    """Every file under `root`, hidden ones and mxbatch's own folders apart.

    Links are followed. Those to folders are kept for the end, so that a folder goes by its real name where it
    has one, and a folder met again (a loop, a second link) is not read again. `leave_out(parent, name)` says
    which folders to pass over. Raises as `check_root` does.
    """
    walk = _Walk(root, leave_out)
    while walk.folders or walk.links:
        walk.visit(walk.folders.pop() if walk.folders else walk.links.popleft())
    return Scan(entries=walk.entries, notes=tuple(walk.remarks()))


class _Walk:
    """The state of one walk. Its paths keep the disk's own bytes (as surrogate escapes); entries never do."""

    def __init__(self, root: Path, leave_out: Callable[[str, str], bool]) -> None:
        self.root, self.leave_out = root, leave_out
        self.entries: list[Entry] = []
        self.folders: list[str] = [""]  # a stack: depth first
        self.links: deque[str] = deque()
        self.seen = _ancestors(root)  # a link to one of them would lead out of the archive and back
        self.own: list[str] = []
        self.left_out: dict[str, int] = {}
        self.repeated = 0

    def visit(self, folder: str) -> None:
        try:
            identity = _identity(self.absolute(folder))
            if identity in self.seen:
                self.repeated += 1
                return
            self.seen.add(identity)
            with os.scandir(self.absolute(folder)) as listing:
                found = sorted(listing, key=lambda item: item.name)
        except OSError as error:
            self.refuse(folder, error)
            return
        names = {item.name for item in found}
        output = "runs" in names and _holds_runs(f"{self.absolute(folder)}/runs")
        if folder and (output or _BUNDLE_FILE in names):
            self.own.append(shown(folder))
            return
        if output:  # the output lies in the root itself: only what is ours is passed over
            found = [item for item in found if item.name not in _OUTPUT_NAMES]
            self.own += sorted(names & _OUTPUT_NAMES)
        shown_folder = shown(folder)
        subfolders = []
        found.reverse()
        while found:  # taken off one by one: an entry keeps all that the system has said of it
            item = found.pop()
            if not item.name.startswith(".") and (name := self.place(folder, shown_folder, item)):
                subfolders.append(name)
        self.folders.extend(reversed(subfolders))

    def place(self, folder: str, shown_folder: str, item: os.DirEntry[str]) -> str | None:
        """Add an entry for `item`, or queue it when it is a linked folder; a real folder is returned."""
        raw = item.name
        name = raw if raw.isascii() else shown(raw)
        try:
            if item.is_dir():
                return self.descend(folder, shown_folder, item, name)
            status = item.stat()
        except OSError as error:
            if error.errno == errno.ENOENT and not item.is_symlink():
                return None  # gone since the folder was listed
            if error.errno in _NO_TARGET:
                self.entries.append(
                    Entry(shown_folder, name, code="MX-A103", reason="the link's target does not exist")
                )
            else:
                self.entries.append(Entry(shown_folder, name, code="MX-D001", reason=error.strerror))
            return None
        code = reason = None
        if not stat.S_ISREG(status.st_mode):
            code, reason = "MX-A102", f"a {_kind(status.st_mode)} stands here, not a file"
        elif name != raw or folder != shown_folder:
            code, reason = "MX-A111", "the name is not UTF-8"
        self.entries.append(Entry(shown_folder, name, status.st_size, status.st_mtime_ns, code, reason))
        return None

    def descend(self, folder: str, shown_folder: str, item: os.DirEntry[str], name: str) -> str | None:
        path = f"{folder}/{item.name}" if folder else item.name
        if looks_like_image(name):
            self.entries.append(
                Entry(shown_folder, name, code="MX-A102", reason="a folder stands here, not a file")
            )
        elif self.leave_out(folder.rpartition("/")[2] or self.root.name, name):
            self.left_out[name] = self.left_out.get(name, 0) + 1
        elif item.is_symlink():
            self.links.append(path)
        else:
            return path
        return None

    def refuse(self, folder: str, error: OSError) -> None:
        if not folder:
            raise _root_fault(self.root, error) from error
        if error.errno == errno.ENOENT:
            return  # gone since its parent was listed
        parent, _, name = shown(folder).rpartition("/")
        self.entries.append(Entry(parent, name, code="MX-A110", reason=error.strerror))

    def remarks(self) -> list[str]:
        remarks = [f"'{folder}' is mxbatch's own output or model: not read" for folder in self.own]
        if self.left_out:
            count, names = sum(self.left_out.values()), sorted(self.left_out)
            some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            remarks.append(f"{count:,} folders of other procedures ({some}): not read")
        if self.repeated:
            remarks.append(f"{self.repeated:,} links lead to folders above or already read: not followed")
        return remarks

    def absolute(self, folder: str) -> str:
        return f"{self.root}/{folder}" if folder else str(self.root)


def shown(path: str) -> str:
    """`path` with bytes that are no UTF-8 written as `\\xNN`."""
    return path if path.isascii() else os.fsencode(path).decode("utf-8", "backslashreplace")


def _holds_runs(folder: str) -> bool:
    """Whether `folder` is the `runs/` of an output: the lock is there before all else, the records survive a copy."""
    try:
        with os.scandir(folder) as listing:
            return any(item.name == ".lock" or os.path.isfile(f"{item.path}/run.json") for item in listing)
    except OSError:
        return False


def _identity(path: str | Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _ancestors(root: Path) -> set[tuple[int, int]]:
    try:
        return {_identity(parent) for parent in root.resolve().parents}
    except OSError:
        return set()


def _root_fault(root: Path, error: OSError) -> EnvironmentFault:
    what = "not a folder" if error.errno == errno.ENOTDIR else (error.strerror or str(error)).lower()
    return EnvironmentFault("MX-E001" if error.errno in _NO_TARGET else "MX-E003", what, path=root)


def _kind(mode: int) -> str:
    for kind, test in {"pipe": stat.S_ISFIFO, "socket": stat.S_ISSOCK}.items():
        if test(mode):
            return kind
    return "device"
