"""`tensorrt` and `tensorrt-rtx`: the encoder as an engine that NVIDIA's builder makes for the GPU (tensorrt_ways.py).

TensorRT measures kernels while it builds, which takes minutes and needs the GPU. TensorRT-RTX arranges the network in
a second, on any machine, and compiles at the first run; that run is part of building here, so that workers
find the kernels ready.
"""

# B radiographs · S side

from __future__ import annotations

import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from mxbatch.engine.bundle import Bundle
from mxbatch.engine.runtime.calibration import CALIBRATED, Sample
from mxbatch.engine.runtime.encoder import Encoder, EngineSpec, Note, Runtime
from mxbatch.engine.runtime.tensorrt_library import TENSORRT, TENSORRT_RTX, Library

PLAN, KERNELS = "encoder.plan", "kernels.bin"


def build(
    library: Library,
    bundle: Bundle,
    spec: EngineSpec,
    folder: Path,
    note: Note,
    sample: Sample | None = None,
) -> None:
    """Write the engine's files into `folder`. On the device "cpu" TensorRT-RTX builds for GPUs that are not here."""
    import torch

    from mxbatch.engine.runtime.tensorrt_ways import Job, fastest_plan

    on_gpu = spec.device != "cpu"
    with tempfile.TemporaryDirectory() as scratch, torch.cuda.device(spec.device if on_gpu else -1):
        job = Job(
            library=library,
            bundle=bundle,
            spec=spec,
            sample=sample,
            scratch=Path(scratch),
            timings=folder.parent / f"{library.name}.timings",
        )
        plan = fastest_plan(job, note)
    (folder / PLAN).write_bytes(plan)
    if on_gpu and library.compiles_at_load:
        note(f"{library.name} compiles its kernels")
        (folder / KERNELS).write_bytes(_first_run(library, bundle, spec, folder / PLAN))


def load(library: Library, bundle: Bundle, spec: EngineSpec, folder: Path, threads: int) -> Encoder:
    """The engine in `folder` on the GPU `spec.device`. Raises EnvironmentFault MX-M005, MX-M006."""
    from mxbatch.engine.runtime.tensorrt_run import PlanEncoder

    kernels = folder / KERNELS
    return PlanEncoder(library, folder / PLAN, spec, kernels.read_bytes() if kernels.is_file() else b"")


def usable(library: Library, device: str) -> str | None:
    if not device.startswith("cuda"):
        return f"{library.name} computes on NVIDIA's GPUs: --device cuda"
    if why := library.missing():
        return why
    return None if find_spec("onnxscript") else f"onnxscript is not installed: {library.install}"


def _first_run(library: Library, bundle: Bundle, spec: EngineSpec, plan: Path) -> bytes:
    import torch

    from mxbatch.engine.runtime.tensorrt_run import PlanEncoder

    side = bundle.recipe.input.size
    encoder = PlanEncoder(library, plan, spec)
    encoder(torch.zeros(spec.batch, side, side, dtype=torch.uint8, device=spec.device))
    torch.cuda.synchronize(spec.device)
    return encoder.kernels()


def _entry(library: Library, summary: str) -> Runtime:
    return Runtime(
        name=library.name,
        summary=summary,
        precisions=lambda _: ("bfloat16", "float16", "float32"),
        calibrated=CALIBRATED,
        distributions=(
            library.distribution,
            *(("torch-tensorrt",) if library.torch_converts else ()),
            "onnxscript",
            "torch",
            "timm",
        ),
        usable=partial(usable, library),
        build=partial(build, library),
        load=partial(load, library),
    )


RUNTIMES = (
    _entry(TENSORRT, "NVIDIA TensorRT: kernels measured on this GPU"),
    _entry(TENSORRT_RTX, "NVIDIA TensorRT for RTX: built in seconds, compiled at the first run"),
)
