"""`mxbatch doctor`: does everything that scoring needs work on this machine? Each check tries the real thing."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mxbatch import __version__


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the examination."""

    name: str
    fine: bool
    what: str
    fix: str = ""
    needed: bool = True

    @property
    def mark(self) -> str:
        return "ok" if self.fine else "FAIL" if self.needed else "–"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine() -> list[Finding]:
    """Every check, in the order in which a run would stumble."""
    checks: list[tuple[str, bool, Callable[[], str], str]] = [
        ("mxbatch", True, _versions, "pip install --force-reinstall mxbatch"),
        ("processor", True, _processor, ""),
        ("memory", True, _memory, "a CPU worker wants 1.5 GB: give --workers"),
        ("output disk", True, _disk, "free some space"),
        ("decoders", True, _decoders, "pip install --force-reinstall mxbatch"),
        ("torch", True, _torch, "pip install torch torchvision"),
        ("model", True, _model, "see the reason; `pip install --force-reinstall timm torch`"),
        ("GPU", False, _gpu, "none is needed; with one, install NVIDIA's driver"),
    ]
    return [*(_check(*check) for check in checks), _gpu_decode(), *_runtimes()]


def _check(name: str, needed: bool, look: Callable[[], str], fix: str) -> Finding:
    try:
        return Finding(name=name, fine=True, what=look(), needed=needed)
    except Exception as error:  # whatever is wrong with the machine is what this command is for
        what = f"{type(error).__name__}: {error}" if needed else str(error)
        return Finding(name=name, fine=False, what=what, fix=fix, needed=needed)


def _versions() -> str:
    return f"{__version__} on Python {platform.python_version()}"


def _processor() -> str:
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    bfloat16 = "bfloat16" if "avx512_bf16" in text or "amx_bf16" in text else "no bfloat16"
    return f"{len(os.sched_getaffinity(0))} cores, {bfloat16}"


def _memory() -> str:
    from mxbatch.engine.machine import WORKER_BYTES, memory_bytes

    found = memory_bytes()
    if found < WORKER_BYTES:
        raise MemoryError(f"{found / 1e9:.1f} GB")
    return f"{found / 1e9:.0f} GB"


def _disk() -> str:
    free = shutil.disk_usage(Path.cwd()).free
    if free < 100_000_000:
        raise OSError(f"only {free / 1e6:.0f} MB free here")
    return f"{free / 1e9:.0f} GB free here"


def _decoders() -> str:
    """Decode one small drawn radiograph of every format."""
    from mxbatch.engine.decode.contract import InputContract, Limits
    from mxbatch.engine.decode.radiograph import decode
    from mxbatch.engine.drawing import draw_radiograph
    from mxbatch.engine.file_formats import FILE_FORMATS

    picture = draw_radiograph("dv", seed=0)
    for encode in FILE_FORMATS.values():
        decode(encode(picture), InputContract(size=64), Limits())
    return " ".join(FILE_FORMATS)


def _torch() -> str:
    import torch

    return f"{torch.__version__}, timm {version('timm')}"


def _model() -> str:
    """Build the untrained example from nothing, and let it pass its golden check."""
    from mxbatch.engine.bundle import write_untrained
    from mxbatch.engine.runtime.scorer import open_scorer

    with tempfile.TemporaryDirectory() as folder:
        scorer = open_scorer(write_untrained(Path(folder) / "bundle"), batch=4)
    return f"the untrained example passes its golden check ({scorer.name})"


def _runtimes() -> list[Finding]:
    """Each runtime on the best device there is: usable, or why not."""
    from mxbatch.engine.machine import count_gpus
    from mxbatch.engine.runtime.scorer import RUNTIMES

    device = "cuda:0" if count_gpus() else "cpu"
    findings = []
    for runtime in RUNTIMES.values():
        why, _, fix = (runtime.usable(device) or "").partition(": ")
        what = why or f"{runtime.summary} ({', '.join(runtime.precisions(device))})"
        findings.append(
            Finding(name=f"runtime {runtime.name}", fine=not why, what=what, fix=fix, needed=False)
        )
    return findings


def _gpu_decode() -> Finding:
    """Whether nvImageCodec opens on the first GPU; whether its pictures are right, every run asks by itself."""
    from mxbatch.engine.machine import count_gpus
    from mxbatch.engine.offload.nvimagecodec import ENGINES, NvImageCodec, hindrance

    name, device = "GPU decode", "cuda:0" if count_gpus() else "cpu"
    if found := hindrance(device):
        why, _, fix = found.partition(": ")
        return Finding(name=name, fine=False, what=why, fix=fix, needed=False)

    def look() -> str:
        opened, reason = [], ""
        for engine in ENGINES:
            try:
                NvImageCodec(device, engine)
                opened.append(engine)
            except Exception as error:  # a library's exceptions have no common base
                reason = str(error)
        if not opened:
            raise RuntimeError(reason)
        return f"nvImageCodec ({', '.join(opened)})"

    return _check(name, False, look, "see the reason; `pip install --force-reinstall 'mxbatch[nvimgcodec]'`")


def _gpu() -> str:
    from mxbatch.engine.machine import count_gpus

    if not count_gpus():
        raise RuntimeError("no NVIDIA GPU")
    import torch

    return ", ".join(torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count()))
