"""NVIDIA's two libraries with one interface: what tells `tensorrt` and `tensorrt_rtx` apart, as data.

Both build and run through the same calls, so the files beside this one get a `Library` and know no names. What either
library has to say goes to a log that is read where something fails, and turned into one line.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mxbatch.engine.errors import EnvironmentFault


@dataclass(frozen=True, kw_only=True, slots=True)
class Library:
    """One of the two, and what mxbatch expects of it."""

    name: str
    """The runtime's."""
    module: str
    distribution: str
    extra: str
    """`pip install 'mxbatch[...]'` brings it."""
    versions: tuple[tuple[int, int], tuple[int, int]]
    """From the first on, and below the second."""
    torch_converts: bool = False
    """torch-tensorrt, where it is installed, is another way to an engine of it."""
    times_kernels: bool = False
    """It measures kernels while it builds, and can remember what it measured."""
    compiles_at_load: bool = False
    """Its engines hold no machine code: the GPU's is made at the first run, and can be kept."""

    @property
    def install(self) -> str:
        return f"pip install 'mxbatch[{self.extra}]'"

    def missing(self) -> str | None:
        """None, or why it cannot be imported here, with the command that mends it. Imports nothing."""
        try:
            found = version(self.distribution)
        except PackageNotFoundError:
            found = None
        if found is None or find_spec(self.module) is None:
            return f"{self.distribution} is not installed: {self.install}"
        first, end = self.versions
        numbers = tuple(int(number) for number in re.findall(r"\d+", found)[:2])
        if not first <= numbers < end:
            wanted = f"at least {first[0]}.{first[1]} and below {end[0]}.{end[1]}"
            return f"{self.distribution} {found} is installed, {wanted} is needed: {self.install}"
        return None

    def load(self) -> Any:
        """The module. Raises EnvironmentFault MX-M006 where it cannot be imported."""
        try:
            return import_module(self.module)
        except (ImportError, OSError) as error:  # OSError: a shared library of its own is not there
            raise EnvironmentFault(
                "MX-M006", f"{self.module} cannot be imported: {_line(error)}", fix=self.install
            ) from error


TENSORRT = Library(
    name="tensorrt",
    module="tensorrt",
    distribution="tensorrt",
    extra="tensorrt",
    versions=((10, 15), (12, 0)),
    torch_converts=True,
    times_kernels=True,
)
TENSORRT_RTX = Library(
    name="tensorrt-rtx",
    module="tensorrt_rtx",
    distribution="tensorrt-rtx-cu13",
    extra="rtx",
    versions=((1, 7), (2, 0)),
    compiles_at_load=True,
)


@cache
def log_of(trt: Any) -> Any:
    """The logger of the module `trt`: one for the process, for the library keeps the first that it is given."""

    class Log(trt.ILogger):  # type: ignore[misc]  # known at run time only
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=20)

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= int(trt.ILogger.ERROR):
                self.errors.append(_line(message))

    return Log()


def made(trt: Any, kind: str) -> Any:
    """`trt.Builder` or `trt.Runtime`. Raises EnvironmentFault MX-M006 where there is none, without a driver say."""
    log_of(trt).errors.clear()
    try:
        return getattr(trt, kind)(log_of(trt))
    except TypeError as error:  # how the bindings say that the constructor returned nothing
        raise fault(trt, f"no {kind.lower()}", "MX-M006") from error


def fault(trt: Any, what: str, code: str, path: Path | None = None) -> Exception:
    """What to raise where `trt` returned nothing: its own last error, as a fault or as torch's lack of memory."""
    errors = log_of(trt).errors
    line = f"{trt.__name__}: {what}: {errors[-1] if errors else 'no reason given'}"
    if re.search(r"out ?of ?memory", line, re.IGNORECASE):
        import torch

        return torch.OutOfMemoryError(line)
    return EnvironmentFault(code, line, path=path)


def _line(message: object) -> str:
    return " ".join(str(message).split())
