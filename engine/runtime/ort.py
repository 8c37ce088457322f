"""onnxruntime: compiled code for processors on machines without a compiler. float32, or int8.

The engine is the ONNX graph itself; onnxruntime arranges it for the processor each time it is loaded, which takes a
second. Its GPU builds are left alone: there TensorRT does the same from the same graph, and does it better.
"""

# B radiographs · S side · D features

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mxbatch.engine.bundle import Bundle
from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.runtime.calibration import Sample
from mxbatch.engine.runtime.encoder import Encoder, EngineSpec, Note, Runtime
from mxbatch.engine.runtime.onnx_graph import INPUT, write_onnx

if TYPE_CHECKING:
    from torch import Tensor

GRAPH = "encoder.onnx"
INSTALL = "pip install 'mxbatch[onnx]'"


class OnnxEncoder:
    """An `Encoder` over one onnxruntime session on the CPU."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.feature_dim = int(session.get_outputs()[0].shape[1])

    def __call__(self, images: Tensor) -> Tensor:
        import torch

        (features_BD,) = self._session.run(None, {INPUT: images[:, None].numpy()})
        return torch.from_numpy(features_BD)


def _usable(device: str) -> str | None:
    if device != "cpu":
        return "onnxruntime is for processors here: --device cpu"
    for package in ("onnxruntime", "onnxscript"):
        if find_spec(package) is None:
            return f"{package} is not installed: {INSTALL}"
    return None


def _build(bundle: Bundle, spec: EngineSpec, folder: Path, note: Note, sample: Sample | None) -> None:
    note("writing the encoder as an ONNX graph")
    write_onnx(bundle, spec, folder / GRAPH, sample)


def _load(bundle: Bundle, spec: EngineSpec, folder: Path, threads: int) -> Encoder:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3  # errors: it warns of machines without a GPU, too
    # Workers share the cores: a thread that waits for work must not burn the core of its neighbour.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    path = folder / GRAPH
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base class but this one
        reason = " ".join(str(error).split())
        raise EnvironmentFault("MX-M005", f"onnxruntime refuses the graph: {reason}", path=path) from error
    return OnnxEncoder(session)


RUNTIME = Runtime(
    name="onnxruntime",
    summary="ONNX graph on the CPU, float32; needs no compiler",
    precisions=lambda _: ("float32",),
    calibrated=("int8",),
    distributions=("onnxruntime", "onnxscript", "torch", "timm"),
    usable=_usable,
    build=_build,
    load=_load,
)
