"""int8 and float8: numbers with so few steps that each tensor's own range has to be known before.

A fixed sample of the user's radiographs is decoded as for scoring. Its first part shows the ranges, the other part
judges the result (gate.py). What comes out is the ONNX graph with pairs of QuantizeLinear and DequantizeLinear
around each product: onnxruntime and TensorRT make integer kernels of them. What stays in float32 is what bfloat16
leaves there, too (layers.py).
"""

# R radiographs · S side · B radiographs per batch

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.errors import EnvironmentFault, UsageError

if TYPE_CHECKING:
    from mxbatch.engine.bundle import Bundle
    from mxbatch.engine.models.hierarchical import Encoder
    from mxbatch.engine.runtime.encoder import Note

CALIBRATED = ("int8", "float8")
"""The precisions that are never chosen, only asked for, with radiographs to calibrate them on."""
SEEN, HELD_OUT = 64, 256
"""Radiographs that ranges are taken from, and others that the result is judged by."""
LEAST = 32
"""Radiographs of either kind, in an archive that has too few: less would show nothing."""
OPSET = 20
"""In later ones, onnxruntime 1.31 writes zero points of another type than it declares."""
OPERATORS = ("Conv", "Gemm", "MatMul")
_SYMMETRIC = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
"""As TensorRT wants it: zero is zero, and biases stay in float32."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sample:
    """Radiographs of the user's, as the model sees them."""

    digest: str
    """16 hex digits over all pictures: part of the key of what was calibrated on them."""
    seen: NDArray[np.uint8]
    """`[R, S, S]`, to calibrate on."""
    held_out: NDArray[np.uint8]
    """`[R, S, S]`, others, to judge by."""
    views: NDArray[np.int64]
    """`[R]`, the recipe's `view_index` of each of `held_out`."""


def read_sample(bundle: Bundle, archive: Path, note: Note) -> Sample:
    """The same radiographs of `archive` every time, drawn from all that can be read, and no file twice.

    Raises UsageError MX-U001 where there are too few, and what `open_archive` raises.
    """
    from mxbatch.engine.archive.open import open_archive
    from mxbatch.engine.decode.contract import Limits
    from mxbatch.engine.feed import Loader
    from mxbatch.engine.plan import Radiograph

    opened = open_archive(archive, extra_views=bundle.recipe.views)
    columns = ("path", "view", "size", "mtime_ns", "code")
    rows = [row for row in opened.index.select(columns).to_pylist() if row["code"] is None]
    loader = Loader(root=opened.root, contract=bundle.recipe.input, limits=Limits())
    pictures: list[NDArray[np.uint8]] = []
    views: list[int] = []
    known: set[str | None] = set()
    for number in np.random.default_rng(0).permutation(len(rows)):
        if len(pictures) == SEEN + HELD_OUT:
            break
        loaded = loader.load(Radiograph(**rows[number]))
        # a copy of one that was calibrated on would judge what it was taken for
        if loaded.image is not None and loaded.checksum not in known:
            known.add(loaded.checksum)
            pictures.append(loaded.image)
            views.append(bundle.recipe.view_index(rows[number]["view"]))
    if len(pictures) < 2 * LEAST:
        what = f"holds {len(pictures)} readable radiographs, calibrating takes {2 * LEAST} at least"
        raise UsageError("MX-U001", what, path=archive, fix="name a larger archive")
    cut = min(SEEN, len(pictures) // 2)
    note(f"calibrating on {cut} radiographs of {archive.name}, judging by {len(pictures) - cut} others")
    every = np.stack(pictures)
    digest = hashlib.sha256(every.tobytes() + np.array(views).tobytes()).hexdigest()[:16]
    return Sample(
        digest=digest, seen=every[:cut], held_out=every[cut:], views=np.array(views[cut:], np.int64)
    )


def quantise(graph: Path, encoder: Encoder, sample: Sample, precision: str, path: Path) -> None:
    """Write the float32 ONNX graph `graph` of `encoder` in `precision` as `path`, calibrated on `sample.seen`.

    Raises EnvironmentFault MX-M006 where onnxruntime, whose tools do it, is not installed.
    """
    if find_spec("onnxruntime") is None:
        raise EnvironmentFault(
            "MX-M006", "onnxruntime, which calibrates, is not installed", fix="pip install 'mxbatch[onnx]'"
        )
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    kind, method = {
        "int8": (QuantType.QInt8, CalibrationMethod.MinMax),
        "float8": (QuantType.QFLOAT8E4M3FN, CalibrationMethod.Distribution),
    }[precision]
    model = onnx.load(graph, load_external_data=False)
    batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnxruntime's own, of numpy and of ranges that are empty
        quantize_static(
            str(graph),
            str(path),
            _reader(sample.seen, model.graph.input[0].name, batch),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS),
            nodes_to_exclude=_ends(model, encoder),
            per_channel=True,
            activation_type=kind,
            weight_type=kind,
            calibrate_method=method,
            extra_options=_SYMMETRIC,
        )


def _ends(model: Any, encoder: Encoder) -> list[str]:
    """The nodes of the products that stay in float32: weights have the names in the graph that they have in torch."""
    ends = {id(module) for module in encoder.backbone.ends()}
    names = {name for name, module in encoder.named_modules() if id(module) in ends}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in OPERATORS and any(given.rpartition(".")[0] in names for given in node.input)
    ]


def _reader(pictures: NDArray[np.uint8], name: str, batch: int) -> Any:
    """What onnxruntime asks for batches; the last is filled up with pictures of the first."""
    from onnxruntime.quantization import CalibrationDataReader

    def batches() -> Iterator[dict[str, NDArray[np.uint8]]]:
        for at in range(0, len(pictures), batch):
            yield {name: pictures.take(range(at, at + batch), axis=0, mode="wrap")[:, None]}

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # known at run time only
        def __init__(self) -> None:
            self.left = batches()

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            return next(self.left, None)

    return Reader()
