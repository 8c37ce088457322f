"""Where a run keeps its files: a folder, or a prefix of an object store. Both promise the same of a file.

A file is there whole or not at all, and a write that was answered stays. Names are relative to the root and have
slashes; what files there are, and in what order they are written, is the ledger's business (ledger.py).
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mxbatch.engine.errors import EnvironmentFault, OutputLocked, UsageError, from_os_error

if TYPE_CHECKING:
    import pyarrow as pa

Place = Path | str
"""A path, or the address of something in an object store, without what is private in it."""
S3 = "s3://"
ADDRESS = re.compile(r"(s3|gs|gcs|abfss?|az|hdfs|https?|file):/", re.IGNORECASE)
LOCK = "runs/.lock"


class Store(Protocol):
    """What the ledger asks of storage. Every method raises EnvironmentFault where the storage does not answer."""

    @property
    def root(self) -> Place:
        """For people: in messages, in summaries."""

    address: str
    """For `open_store`, in another process or on another machine."""
    readers: int
    """So many files are worth reading at once."""

    def write(self, name: str, content: bytes | pa.Buffer) -> None:
        """The file holds all of `content` or what it held before, whatever happens meanwhile."""

    def open(self, name: str) -> pa.NativeFile:
        """The file, to be read. Raises OSError where it is not there, or damaged."""

    def exists(self, name: str) -> bool: ...

    def names(self, folder: str) -> list[str]:
        """What is in the folder, in no order; a folder's name ends with a slash. Nothing where there is no folder."""

    def remove(self, name: str) -> None:
        """Nothing happens where it is not there."""

    def remove_folder(self, folder: str) -> None:
        """With all that is in it."""

    def log_file(self, name: str) -> Path:
        """A file on this machine that others write to while they work."""

    def lock(self, lost: Callable[[str], None]) -> AbstractContextManager[None]:
        """Hold the root against other runs. `lost` is called, from any thread, when it is not held any more.

        Raises OutputLocked at once when another run holds it.
        """


def open_store(root: Place) -> Store:
    """The storage at a path or at `s3://BUCKET/PREFIX`. Raises UsageError (MX-U001) for an address that cannot be."""
    text = str(root)
    if text.startswith(S3):
        from mxbatch.engine.object_store import ObjectStore

        return ObjectStore(text)
    require_path(root)
    return Folder(Path(root))


def is_address(place: Place) -> bool:
    """Whether it names something that is not on a file system of this machine."""
    return ADDRESS.match(str(place)) is not None


def require_path(place: Place) -> None:
    """Raises UsageError (MX-U001) for an address, which would become a folder of that name (`s3:`)."""
    if found := ADDRESS.match(str(place)):
        fix = "name a folder, or s3://BUCKET/PREFIX for an output: as text, not as a Path"
        raise UsageError("MX-U001", f"{found[1]}: cannot be used here", fix=fix)


def absolute(path: Path | str) -> Path:
    """Absolute, without `..`, in the one spelling under which runs remember it."""
    try:
        folder = os.path.abspath(Path(path).expanduser())
        folder.encode()
    except (RuntimeError, UnicodeEncodeError) as error:  # no such home; bytes that no table can hold
        raise UsageError("MX-U001", f"no usable path ({error})", path=ascii(str(path))) from None
    return Path(folder)


def within(root: Place, name: str) -> Place:
    """The place called `name` in `root`."""
    return root / name if isinstance(root, Path) else f"{root}/{name}"


class Folder:
    """A folder of a file system, of this machine or shared by many."""

    readers = 1

    def __init__(self, root: Path) -> None:
        self.root, self.address = root, str(root)

    def write(self, name: str, content: bytes | pa.Buffer) -> None:
        write_atomically(self.root / name, content)

    def open(self, name: str) -> pa.NativeFile:
        import pyarrow as pa

        return pa.OSFile(str(self.root / name), "rb")

    def exists(self, name: str) -> bool:
        return (self.root / name).exists()

    def names(self, folder: str) -> list[str]:
        try:
            with os.scandir(self.root / folder) as entries:
                return [f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise from_os_error(error, self.root / folder) from None

    def remove(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def remove_folder(self, folder: str) -> None:
        shutil.rmtree(self.root / folder, ignore_errors=True)

    def log_file(self, name: str) -> Path:
        return self.root / name

    @contextmanager
    def lock(self, lost: Callable[[str], None]) -> Iterator[None]:
        """By `flock`: the kernel lets go of it with the process, however that ends, and never before."""
        path = self.root / LOCK
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = path.open("a+")
        except OSError as error:
            raise from_os_error(error, path) from None
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):  # NFS makes it of other locks, which say the second
                handle.seek(0)
                holder = handle.read().strip() or "a run that left no name"
                raise OutputLocked("MX-L001", f"held by {holder}", path=self.root) from None
            except OSError as error:
                fix = "mount it with locks, or choose another --out"
                what = f"it cannot be locked: {error.strerror}"
                raise EnvironmentFault("MX-E005", what, path=path, fix=fix) from None
            handle.truncate(0)
            handle.write(f"process {os.getpid()} on {socket.gethostname()}")
            handle.flush()
            for pattern in (".*.tmp", "*/*/.*.tmp"):  # what a crash left
                for torn in self.root.glob(pattern):
                    torn.unlink(missing_ok=True)
            yield


def write_atomically(path: Path, content: bytes | pa.Buffer) -> None:
    """`path` holds all of `content` or what it held before, whatever happens meanwhile.

    A temporary name, fsync, rename, and fsync of the folder. Raises EnvironmentFault (disk full, no permission) and
    leaves no temporary file behind.
    """
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as handle:
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise from_os_error(error, path) from None
