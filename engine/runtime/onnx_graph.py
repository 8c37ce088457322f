"""The encoder of a bundle as an ONNX graph, from which onnxruntime computes and TensorRT builds.

The graph says everything: the batch is a number in it, uint8 goes in, float32 comes out, and every tensor between has
the type it is to be computed in. So no builder chooses a precision, and no shape is left to be guessed.
"""

# B radiographs · S side · D features

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mxbatch.engine.bundle import Bundle, load_model
from mxbatch.engine.runtime import calibration
from mxbatch.engine.runtime.calibration import CALIBRATED, Sample
from mxbatch.engine.runtime.encoder import EngineSpec

if TYPE_CHECKING:
    from mxbatch.engine.models.hierarchical import Encoder

INPUT, OUTPUT = "images", "features"
"""The graph's two names: `uint8[B, 1, S, S] -> float32[B, D]`."""
OPSET = 22
"""The first in which a convolution may be one of bfloat16."""


def write_onnx(bundle: Bundle, spec: EngineSpec, path: Path, sample: Sample | None = None) -> None:
    """The encoder of `bundle` in `spec.precision`, for exactly `spec.batch` pictures, as the file `path`.

    One of `CALIBRATED` is calibrated on `sample`. Raises ValueError where that is not given.
    """
    from mxbatch.engine.runtime.layers import rearranged

    given, backbone = load_model(bundle).encoder, bundle.recipe.backbone
    shape = {"batch": spec.batch, "size": bundle.recipe.input.size}
    if spec.precision not in CALIBRATED:
        export_encoder(rearranged(given, backbone, spec.precision), **shape, path=path)
        return
    if sample is None:
        raise ValueError(f"{spec.precision} has to be calibrated")
    encoder = rearranged(given, backbone, "float32")
    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch) / "plain.onnx"
        export_encoder(encoder, **shape, path=plain, opset=calibration.OPSET)
        calibration.quantise(plain, encoder, sample, spec.precision, path)


def export_encoder(encoder: Encoder, *, batch: int, size: int, path: Path, opset: int = OPSET) -> None:
    """Write `encoder`, which is in eval mode on the CPU, as an ONNX graph that its own checker accepts.

    Weights beyond what one ONNX file holds (2 GB) go into a second one, `path` with `.data` behind.
    """
    import onnx
    import torch

    example_B1SS = torch.zeros(batch, 1, size, size, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.inference_mode():
        # The exporter and what it imports use each other's deprecated names, differently in every release.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        program = torch.onnx.export(
            encoder,
            (example_B1SS,),
            dynamo=True,
            opset_version=opset,
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    cast("torch.onnx.ONNXProgram", program).save(path)  # None is for the older exporter
    onnx.checker.check_model(path, full_check=True)
