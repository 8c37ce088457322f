"""What a number was measured on, and by which code and command. Every result file carries it."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mxbatch.engine.machine import machine_facts, memory_bytes

LIBRARIES = ("mxbatch", "torch", "timm", "numpy", "pyarrow", "simplejpeg", "pillow", "pydicom")


def describe_machine(also: Iterable[str] = ()) -> dict[str, Any]:
    """Processor, cores, memory, GPUs, system and versions; `also` names packages beyond `LIBRARIES`."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory_bytes() / 1e9),
        "gpus": machine_facts("cuda")["gpus"],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": installed_versions((*LIBRARIES, *also)),
    }


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of those of `names` that are installed, from their metadata alone."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def revision() -> str | None:
    """The commit of this checkout, with `+` where files differ from it; None outside a checkout."""
    root = Path(__file__).resolve().parents[1]
    try:
        head, changes = (
            subprocess.run(["git", "-C", root, *asked], capture_output=True, text=True, check=True).stdout
            for asked in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.strip() + ("+" if changes.strip() else "")


def command_line() -> str:
    """The command as it was given. Folders keep their last name only: where they lie is nobody's business."""
    program = Path(sys.argv[0])
    words = (
        ["python", "-m", f"mxbatch.bench.{program.stem}"] if program.parent.name == "bench" else ["mxbatch"]
    )
    return shlex.join([*words, *(Path(word).name if "/" in word else word for word in sys.argv[1:])])


def hardware(cores: int) -> str:
    """For the name of a result file: `x86_64-2cores`, with the GPU's name in front where there is one."""
    gpus = machine_facts("cuda")["gpus"]
    named = [gpu.rsplit(maxsplit=1)[-1].lower() for gpu in gpus] if isinstance(gpus, list) else []
    return "-".join([*named, platform.machine(), f"{cores}cores"])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
