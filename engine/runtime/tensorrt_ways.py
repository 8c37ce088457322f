"""Two ways from an encoder to NVIDIA's engine: over an ONNX graph, or through torch-tensorrt; the faster is kept.

torch-tensorrt converts torch's own graph operator by operator, so TensorRT sees other layers than it parses from
ONNX, and may fuse them better or worse. It is optional, knows TensorRT alone and imports only beside a GPU's driver.
Where it is not to be had, the ONNX graph is the way, and nothing is said.
"""

# B radiographs · S side

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from mxbatch.engine.bundle import Bundle, load_model
from mxbatch.engine.runtime.calibration import CALIBRATED, Sample
from mxbatch.engine.runtime.encoder import EngineSpec, Note
from mxbatch.engine.runtime.tensorrt_library import Library

ROUNDS = 20
"""Batches whose median is an engine's time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What is to be built, and where its builder may put files."""

    library: Library
    bundle: Bundle
    spec: EngineSpec
    sample: Sample | None
    scratch: Path
    timings: Path
    """What kernels were measured to take, kept from build to build."""

    @property
    def on_gpu(self) -> bool:
        return self.spec.device != "cpu"


def through_torch(job: Job) -> bytes:
    """The plan that torch-tensorrt makes of the exported encoder, with our two names for what goes in and out."""
    import torch

    from mxbatch.engine.runtime.layers import rearranged
    from mxbatch.engine.runtime.onnx_graph import INPUT, OUTPUT

    bundle, spec, side = job.bundle, job.spec, job.bundle.recipe.input.size
    encoder = rearranged(load_model(bundle).encoder, bundle.recipe.backbone, spec.precision).to(spec.device)
    example_B1SS = torch.zeros(spec.batch, 1, side, side, dtype=torch.uint8, device=spec.device)
    convert = import_module("torch_tensorrt").dynamo.convert_exported_program_to_serialized_trt_engine
    with torch.no_grad():
        plan: bytes = convert(
            torch.export.export(encoder, (example_B1SS,)),
            arg_inputs=[example_B1SS],
            device=torch.device(spec.device),
            disable_tf32=True,  # float32 has 24 digits here, not 11
            timing_cache_path=str(job.scratch / "torch.timings"),  # by default where others write
            arg_input_binding_names=(INPUT,),
            output_binding_names=OUTPUT,
        )
    return bytes(plan)


def through_onnx(job: Job) -> bytes:
    """The plan that NVIDIA's parser and builder make of the ONNX graph."""
    from mxbatch.engine.runtime.onnx_graph import write_onnx
    from mxbatch.engine.runtime.tensorrt_build import CURRENT, PORTABLE, PORTABLE_FLOAT8, build_plan

    graph = job.scratch / "encoder.onnx"
    write_onnx(job.bundle, job.spec, graph, job.sample)
    elsewhere = PORTABLE_FLOAT8 if job.spec.precision == "float8" else PORTABLE
    targets = CURRENT if job.on_gpu else elsewhere
    return build_plan(job.library, graph, targets=targets, timings=job.timings)


WAYS: dict[str, Callable[[Job], bytes]] = {"torch-tensorrt": through_torch, "ONNX": through_onnx}
"""In the order in which they are gone: torch-tensorrt wants to be imported before TensorRT is."""


def fastest_plan(job: Job, note: Note) -> bytes:
    """The plan by the way that gives the faster engine here. A way that leads nowhere is announced.

    Raises what the last way raises where none leads anywhere; torch.OutOfMemoryError at once.
    """
    import torch

    ways = [name for name in WAYS if name == "ONNX" or _has_torch_tensorrt(job)]
    spec, plans = job.spec, dict[str, bytes]()
    for name in ways:
        through = f" through {name}" if len(ways) > 1 else ""
        note(
            f"{job.library.name} builds an engine in {spec.precision} for {spec.batch} radiographs at a time{through}"
        )
        try:
            plans[name] = WAYS[name](job)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # converters' exceptions have no common base
            if name == ways[-1] and not plans:
                raise
            note(
                f"there is no way through {name}: {(str(error).strip() or type(error).__name__).splitlines()[0]}"
            )
    if len(plans) == 1:
        return plans.popitem()[1]
    times = {name: seconds_per_batch(job, plan) for name, plan in plans.items()}
    best, other = sorted(times, key=times.__getitem__)
    note(
        f"kept: the engine through {best}, {times[best] * 1e3:.3g} ms a batch, {other} {times[other] * 1e3:.3g}"
    )
    return plans[best]


def _has_torch_tensorrt(job: Job) -> bool:
    """Whether torch-tensorrt can be imported, and is of use for this job."""
    if not job.library.torch_converts or not job.on_gpu or job.spec.precision in CALIBRATED:
        return False
    if find_spec("torch_tensorrt") is None:
        return False
    try:
        import_module("torch_tensorrt")
    except Exception:  # it raises a bare Exception where a library of its own is missing
        return False
    return True


def seconds_per_batch(job: Job, plan: bytes) -> float:
    """How long the engine of `plan` takes for one batch: the median of `ROUNDS`, after as many to warm up."""
    import torch

    from mxbatch.engine.runtime.tensorrt_run import PlanEncoder

    path, side = job.scratch / "timed.plan", job.bundle.recipe.input.size
    path.write_bytes(plan)
    encoder = PlanEncoder(job.library, path, job.spec)
    images_BSS = torch.zeros(job.spec.batch, side, side, dtype=torch.uint8, device=job.spec.device)
    times = []
    for _ in range(2 * ROUNDS):
        torch.cuda.synchronize(job.spec.device)
        started = time.perf_counter()
        encoder(images_BSS)
        torch.cuda.synchronize(job.spec.device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[ROUNDS:])
