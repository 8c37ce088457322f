"""The bytes of one radiograph -> `uint8[S, S]`: the only door to engine/decode.

`FORMATS` says who reads what. A reader gives a grey plane or fails in whatever way its library fails;
`decode` is the one border at which every failure becomes a `RadiographError` with its code. All of it is a
pure function of the bytes, with no state between calls, and may run in any number of threads: the decoders
release the interpreter.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.decode.bmp import read_bmp
from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.decode.dicom import read_dicom
from mxbatch.engine.decode.fault import kind_of, reason_of
from mxbatch.engine.decode.jpeg import read_jpeg
from mxbatch.engine.decode.plane import Plane
from mxbatch.engine.decode.png import read_png
from mxbatch.engine.decode.prepare import prepare
from mxbatch.engine.decode.sniff import HEAD_BYTES, looks_like_text, sniff
from mxbatch.engine.decode.tiff import read_tiff
from mxbatch.engine.errors import RadiographError


@dataclass(frozen=True, slots=True)
class Format:
    """One family of formats."""

    family: int
    """The digit of its codes: MX-D<family>.."""
    read: Callable[[bytes, InputContract, Limits], Plane]
    holds: str
    """What is read of it, in words for `mxbatch info`."""


FORMATS: dict[str, Format] = {
    "jpeg": Format(1, read_jpeg, "grey or colour, 8 and 12 bit, baseline, progressive and lossless"),
    "png": Format(2, read_png, "1 to 16 bit, grey, colour, palette, alpha, interlaced"),
    "bmp": Format(3, read_bmp, "palette and true colour, run-length"),
    "tiff": Format(
        4, read_tiff, "8 to 32 bit, striped or tiled, LZW, Deflate, PackBits, Zstandard, JPEG, JPEG 2000"
    ),
    "dicom": Format(
        5, read_dicom, "uncompressed, deflated, RLE, JPEG, lossless JPEG, JPEG-LS, JPEG 2000, HTJ2K"
    ),
}


@dataclass(frozen=True, slots=True)
class Decoded:
    """A radiograph as its model wants it, and what it was before."""

    image: NDArray[np.uint8]
    """`[S, S]`, C-contiguous."""
    format: str
    """A key of `FORMATS`."""
    width: int
    """Of the original, in pixels."""
    height: int


def read_bytes(path: Path, limits: Limits) -> bytes:
    """The whole file, or a `RadiographError` that names it.

    Opened without blocking, so that a pipe named like a radiograph cannot stop a run. Looked at before it is
    read, so that junk costs its first bytes and not its size. Read one byte further than its size, so that a
    file that someone is still writing is put off instead of called truncated.

    Read and not mapped: where a mapped file shrinks under its reader, as on a share it may, the process dies of
    SIGBUS, and here it is put off. Mapping would save the copy, but its checksum needs every byte anyway, and
    beside that the copy is a twelfth (docs/performance.md).
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise RadiographError("MX-A102", "not a regular file", path=path)
            if status.st_size == 0:
                raise RadiographError("MX-D003", "the file has zero bytes", path=path)
            if status.st_size > limits.max_file_bytes:
                what = f"{status.st_size} bytes, at most {limits.max_file_bytes} are read"
                raise RadiographError("MX-D006", what, path=path)
            head = file.read(HEAD_BYTES)
            if len(head) == min(HEAD_BYTES, status.st_size) and sniff(head) is None:
                raise _unknown(head, path)
            file.seek(0)
            data = file.read(status.st_size + 1)
    except FileNotFoundError as error:
        raise RadiographError("MX-D002", "the file is not there any more", path=path) from error
    except IsADirectoryError as error:
        raise RadiographError("MX-A102", "not a regular file", path=path) from error
    except OSError as error:
        code = "MX-A102" if error.errno == errno.ENXIO else "MX-D001"  # ENXIO: a socket
        raise RadiographError(code, error.strerror or str(error), path=path) from error
    except MemoryError as error:
        raise _no_memory("read", path) from error
    if len(data) != status.st_size:
        what = f"its size changed from {status.st_size} bytes while it was read"
        raise RadiographError(
            "MX-D001", what, path=path, fix="wait until it is written; the next run tries again"
        )
    return data


def decode(data: bytes, contract: InputContract, limits: Limits) -> Decoded:
    """Decode and prepare one radiograph. Raises `RadiographError` and nothing else, whatever the bytes are.

    The error does not name the file, which only the caller knows. Want of memory is the machine's and passes
    (MX-D001); what a file may ask for is a matter of `limits`.
    """
    head = data[:HEAD_BYTES]
    name = sniff(head)
    if name is None:
        raise _unknown(head)
    form = FORMATS[name]
    try:
        plane = form.read(data, contract, limits)
        return Decoded(prepare(plane, contract), name, plane.width, plane.height)
    except MemoryError as error:
        raise _no_memory("decoded") from error
    except Exception as error:  # the border: six libraries, each with exceptions of its own, see kind_of
        raise RadiographError(f"MX-D{form.family}{kind_of(error)}", reason_of(error)) from error


def _unknown(head: bytes, path: Path | None = None) -> RadiographError:
    if not head:
        return RadiographError("MX-D003", "the file has zero bytes", path=path)
    if looks_like_text(head):
        start = head[:40].decode("utf-8", "replace").strip()
        return RadiographError("MX-D004", f"the file is text: {start!r}", path=path)
    return RadiographError("MX-D005", f"its first bytes are {head[:8].hex(' ')}", path=path)


def _no_memory(done: str, path: Path | None = None) -> RadiographError:
    what = f"this machine had no memory left when it was {done}"
    return RadiographError("MX-D001", what, path=path, fix="use fewer workers; the next run tries again")
