"""What this machine offers, and how many workers it makes. Asks the operating system, never torch."""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mxbatch.engine.errors import EnvironmentFault, UsageError

WORKER_BYTES = 1_500_000_000
"""Room to leave for each CPU worker: torch, the model and its activations."""
CPU_BATCH, CUDA_BATCH = 16, 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """The workers of a run: one entry of `devices` each."""

    devices: tuple[str, ...]
    batch: int
    model_threads: int
    decode_threads: int
    """0 where the model's own thread decodes, because both would share a core."""


def choose_crew(
    device: str = "auto",
    workers: int | None = None,
    batch: int | None = None,
    *,
    cpus: int | None = None,
    worker_bytes: int = WORKER_BYTES,
) -> Crew:
    """One worker per GPU, its decoders sharing the cores; else one single-threaded worker per core and `worker_bytes`.

    A CPU worker decodes and runs its model on one thread however many workers there are: so a specimen's numbers do not
    depend on how the machine was shared out. Raises UsageError when CUDA is asked for and there is none.
    """
    cpus = cpus or len(os.sched_getaffinity(0))
    gpus = count_gpus()
    if device == "cuda" and not gpus:
        raise UsageError("MX-U001", "device cuda: this machine shows no NVIDIA GPU", fix="--device cpu")
    if gpus and device != "cpu":
        count = workers or gpus
        return Crew(
            devices=tuple(f"cuda:{n % gpus}" for n in range(count)),
            batch=batch or CUDA_BATCH,
            model_threads=1,
            decode_threads=max(1, cpus // count),
        )
    count = workers or max(1, min(cpus, memory_bytes() // worker_bytes))
    return Crew(devices=("cpu",) * count, batch=batch or CPU_BATCH, model_threads=1, decode_threads=0)


def proven(crew: Crew, device: str, note: Callable[[str], None], *, worker_bytes: int = WORKER_BYTES) -> Crew:
    """`crew`, once torch has computed something on its GPU; under `auto`, CPU workers where torch cannot.

    The driver may show a GPU that torch's build does not support, and only torch can tell; it is asked in a
    process of its own. Raises EnvironmentFault (MX-E006) when CUDA was asked for.
    """
    if crew.devices[0] == "cpu":
        return crew
    code = "import torch; torch.zeros(1, device='cuda').add(1).item()"
    asked = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    if asked.returncode == 0:
        return crew
    why = (asked.stderr.strip().splitlines() or ["no reason given"])[-1]
    if device == "cuda":
        raise EnvironmentFault(
            "MX-E006", f"torch cannot use the GPU: {why}", fix="--device cpu, or see `mxbatch doctor`"
        )
    note(f"torch cannot use the GPU ({why}): scoring on the CPU")
    return choose_crew("cpu", worker_bytes=worker_bytes)


def peak_bytes() -> int:
    """The most memory that this process has held so far. What getrusage says may be its parent's, from before exec."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def over_budget(crew: Crew, peak: int, planned: int) -> str | None:
    """What to say of CPU workers that took more than was planned: next time too many might start."""
    if crew.devices[0] != "cpu" or peak <= planned:
        return None
    took = math.ceil(peak / 1e8) / 10
    what = f"a worker has taken {took:g} GB, {planned / 1e9:g} were planned for"
    return f"{what}: --worker-memory {took:g} starts no more than fit"


def count_gpus() -> int:
    """NVIDIA GPUs that this process may use: the driver's list, narrowed by CUDA_VISIBLE_DEVICES."""
    present = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return present
    return min(present, len([name for name in visible.split(",") if name.strip() not in ("", "-1")]))


@cache
def processor_flags() -> frozenset[str]:
    """What the processor says it can do, in the kernel's words; empty where it says nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    found = (line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(found, []))


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself: AVX512, AMX, or an Arm core's own."""
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & processor_flags())


def machine_facts(device: str) -> dict[str, object]:
    """What code that was compiled for `device` depends on; equal facts may share it. Asks no library.

    GPUs that are all of one model are interchangeable; else the device's number belongs to the facts.
    """
    if device == "cpu":
        return {"architecture": platform.machine(), "flags": sorted(processor_flags())}
    models = [
        _line(path, "Model:") for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    ]
    which = (
        {} if len(set(models)) == 1 else {"device": device, "visible": os.environ.get("CUDA_VISIBLE_DEVICES")}
    )
    driver = _line(Path("/proc/driver/nvidia/version"), "NVRM version:")
    return {"architecture": platform.machine(), "gpus": sorted(set(models)), "driver": driver, **which}


def _line(path: Path, start: str) -> str:
    """What follows `start` in its line of a file of the kernel's; empty where there is none."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return ""
    return next((line.removeprefix(start).strip() for line in lines if line.startswith(start)), "")


def memory_bytes() -> int:
    """Memory that may be used without swapping, in bytes; what a container grants when that is less."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        try:
            free = min(free, int(path.read_text()))
        except (OSError, ValueError):
            continue
    return free
