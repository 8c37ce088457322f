"""Where the Triton kernels run, and what runs where they cannot.

Each kernel stands beside a plain torch twin. On a GPU the kernel serves; on a CPU the twin, which is what
everybody expects there and nobody is told. A GPU without Triton is a surprise: that is said once.
"""

from __future__ import annotations

import os
import shutil
import warnings
from functools import cache
from importlib.util import find_spec

import torch


def interpreted() -> bool:
    """Whether Triton was asked to run its kernels in numpy, on the CPU: slow, and how tests without a GPU see them."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def triton_serves(device: torch.device) -> bool:
    """Whether the kernels run on `device`. Warns, once per process, about a GPU on which they cannot."""
    if device.type == "cpu":
        return interpreted()
    if why := _hindrance(device.type):
        _say(f"{why}: plain torch takes the place of mxbatch's kernels, with the same results, more slowly")
        return False
    return True


def _hindrance(kind: str) -> str | None:
    if kind != "cuda":
        return f"the kernels are written for CUDA devices, and this one is {kind}"
    if find_spec("triton") is None:
        return "Triton is not installed"
    if "CC" not in os.environ and not any(map(shutil.which, ("gcc", "clang"))):
        return "Triton needs a C compiler to launch its kernels (apt-get install gcc)"
    return None


@cache
def _say(what: str) -> None:
    warnings.warn(what, RuntimeWarning, stacklevel=3)
