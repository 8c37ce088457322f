"""An ONNX graph becomes a plan: NVIDIA's word for a serialised engine.

The network is strongly typed, so each layer computes in the type that stands in the graph; from TensorRT 11 on there
is nothing else. The graph's shapes are numbers, so there is no optimisation profile to choose.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.runtime.tensorrt_library import Library, fault, made

PORTABLE = ("SM80", "SM86", "SM89", "SM120")
"""The compute capabilities that a plan is built for where there is no GPU to ask."""
PORTABLE_FLOAT8 = ("SM89", "SM120")
"""Those of them that have float8; a plan for others is refused as a whole."""
CURRENT = ("CURRENT",)


def build_plan(library: Library, graph: Path, *, targets: Sequence[str], timings: Path) -> bytes:
    """The plan of `graph` for the compute capabilities `targets`.

    `timings` is a file in which a library that measures kernels remembers what it measured. Raises
    EnvironmentFault MX-M006 with the library's reason, torch.OutOfMemoryError where the GPU has too little memory.
    """
    trt = library.load()
    builder = made(trt, "Builder")
    network, _parser = _network(trt, builder, graph)
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # float32 has 24 digits here, not 11
    if library.compiles_at_load:
        config.num_compute_capabilities = len(targets)
        for index, name in enumerate(targets):
            config.set_compute_capability(trt.ComputeCapability.__members__[name], index)
    if library.times_kernels:
        _recall(config, timings)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise fault(trt, "no engine came of the graph", "MX-M006")
    if library.times_kernels and (measured := config.get_timing_cache()) is not None:
        _replace(timings, bytes(measured.serialize()))
    return bytes(plan)


def _network(trt: Any, builder: Any, graph: Path) -> tuple[Any, Any]:
    """The network of `graph`, and the parser, which holds its weights and must live as long."""
    flags = trt.NetworkDefinitionCreationFlag.__members__
    network = builder.create_network(1 << int(flags["STRONGLY_TYPED"]) if "STRONGLY_TYPED" in flags else 0)
    parser = trt.OnnxParser(network, builder.logger)
    if not parser.parse_from_file(str(graph)):
        errors = (parser.get_error(index) for index in range(parser.num_errors))
        reasons = "; ".join(f"{error.node_name() or 'graph'}: {error.desc()}" for error in errors)
        raise EnvironmentFault(
            "MX-M006", f"{trt.__name__} does not take the graph: {' '.join(reasons.split())}"
        )
    return network, parser


def _recall(config: Any, timings: Path) -> None:
    """Begin with what was measured before; with nothing where that is damaged, or of another GPU or version."""
    known = [timings.read_bytes()] if timings.is_file() else []
    for content in (*known, b""):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return


def _replace(path: Path, content: bytes) -> None:
    """Write `path` whole: another process may build at the same time, and either's measurements will do."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
