"""An output in an object store that speaks S3, through pyarrow's file system.

An object appears whole when its upload is answered, and replaces its forerunner in the same instant: what rename does
for a folder, the store does here. Credentials, region and endpoint are pyarrow's business, from the environment and
from the address; of what it says about them, only the kind of error and the request are passed on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from mxbatch.engine.claims import hold
from mxbatch.engine.errors import EnvironmentFault, UsageError
from mxbatch.engine.model_store import cache_folder
from mxbatch.engine.storage import S3

SAID = re.compile(r"AWS Error (.+?) during (\w+) operation")
ONE_REQUEST = "allow_delayed_open=true"
"""For pyarrow: a small file goes in one request, so that a crash leaves no half of an upload to be paid for."""


class ObjectStore:
    """The objects under `s3://BUCKET/PREFIX`."""

    readers = 16

    def __init__(self, address: str) -> None:
        """The address may have pyarrow's query: `?endpoint_override=HOST:PORT&scheme=http&region=NAME`."""
        parts = urlsplit(address)
        if "@" in parts.netloc:
            fix = "put them into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            raise UsageError("MX-U001", "credentials in an address can be read by everybody", fix=fix)
        prefix = parts.path.strip("/")
        self.address = address
        self.root = f"{S3}{parts.netloc}" + (f"/{prefix}" if prefix else "")
        query = f"{parts.query}&{ONE_REQUEST}" if parts.query else ONE_REQUEST
        try:
            if not parts.netloc or (prefix and {"", ".", ".."} & set(prefix.split("/"))):
                raise ValueError(prefix)
            self._files, key = fs.FileSystem.from_uri(f"{self.root}?{query}")
        except ValueError:
            fix = "write s3://BUCKET/PREFIX, and after a ? what pyarrow takes: endpoint_override, scheme, region"
            raise UsageError("MX-U001", "no usable address", path=self.root, fix=fix) from None
        except OSError as error:  # the bucket was asked for its region
            raise EnvironmentFault("MX-E016", _said(error), path=self.root) from None
        self._key = str(key)

    def write(self, name: str, content: bytes | pa.Buffer) -> None:
        """In a thread of its own, which no Ctrl-C reaches: a stream that is left is closed, and puts what it has."""

        def put() -> None:
            with self._files.open_output_stream(self._path(name)) as stream:
                stream.write(content)

        with self._asked(name), ThreadPoolExecutor(1) as thread:
            thread.submit(put).result()

    def open(self, name: str) -> pa.NativeFile:
        with self._asked(name, FileNotFoundError), self._files.open_input_file(self._path(name)) as file:
            return pa.BufferReader(file.read_buffer())

    def exists(self, name: str) -> bool:
        with self._asked(name):
            return bool(self._files.get_file_info(self._path(name)).type != fs.FileType.NotFound)

    def names(self, folder: str) -> list[str]:
        return [
            f"{info.base_name}/" if info.type == fs.FileType.Directory else info.base_name
            for info in self._listed(folder)
        ]

    def times(self, folder: str) -> dict[str, datetime]:
        """When each object of the folder was written, all by the store's own clock."""
        return {info.base_name: info.mtime for info in self._listed(folder) if info.type == fs.FileType.File}

    def remove(self, name: str) -> None:
        with self._asked(name), suppress(FileNotFoundError):
            self._files.delete_file(self._path(name))

    def remove_folder(self, folder: str) -> None:
        with self._asked(folder), suppress(FileNotFoundError):
            self._files.delete_dir(self._path(folder))

    def log_file(self, name: str) -> Path:
        """In the user's cache: no object can be appended to, and words matter most when the store is out of reach."""
        path = cache_folder() / "logs" / self._key.replace("/", "-") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def lock(self, lost: Callable[[str], None]) -> AbstractContextManager[None]:
        return hold(self, lost)

    def _path(self, name: str) -> str:
        return f"{self._key}/{name}"

    def _listed(self, folder: str) -> list[fs.FileInfo]:
        with self._asked(folder):
            selector = fs.FileSelector(self._path(folder), allow_not_found=True)
            return list(self._files.get_file_info(selector))

    @contextmanager
    def _asked(self, name: str, missing: type[OSError] | tuple[()] = ()) -> Iterator[None]:
        """Refusals, and no answer at all, become one error; `missing` passes."""
        try:
            yield
        except missing:
            raise
        except (OSError, pa.ArrowException) as error:
            raise EnvironmentFault("MX-E016", _said(error), path=f"{self.root}/{name}") from None


def _said(error: Exception) -> str:
    """What pyarrow says, without the addresses, accounts and requests in it."""
    found = SAID.search(str(error))
    return f"{found[2]} failed: {found[1]}" if found else f"it failed with a {type(error).__name__}"
