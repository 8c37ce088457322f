"""A plan becomes an encoder: NVIDIA's execution context over torch's tensors, on torch's stream.

Nothing is copied and nothing waits, so that one CUDA graph can hold it. A plan is native code: only those
that this machine built come here, from a folder that nobody else can write, their checksums compared.
"""

# B radiographs · S side · D features

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.runtime.encoder import EngineSpec
from mxbatch.engine.runtime.onnx_graph import INPUT, OUTPUT
from mxbatch.engine.runtime.tensorrt_library import Library, fault, made

if TYPE_CHECKING:
    from torch import Tensor

DAMAGED = {"VERSION_MISMATCH", "MALFORMED_ENGINE"}
"""Of the reasons why a library refuses a plan, those that building it again would mend."""


class PlanEncoder:
    """An `Encoder` over one execution context on one CUDA device."""

    def __init__(self, library: Library, plan: Path, spec: EngineSpec, kernels: bytes = b"") -> None:
        """Open the file `plan`. `kernels` is what `kernels()` gave for the same plan on the same GPU.

        Raises EnvironmentFault MX-M005 where the plan is damaged or of another version, MX-M006 where it cannot run
        here, torch.OutOfMemoryError.
        """
        import torch

        self._trt = trt = library.load()
        self._device = torch.device(spec.device)
        with torch.cuda.device(self._device):
            # All four outlive the context: the library frees each with its last Python reference.
            self._runtime = made(trt, "Runtime")
            self._engine = _deserialised(trt, self._runtime, plan)
            self._shape = _shape(trt, self._engine, spec.batch, plan)
            self._cache, config = _kernel_cache(library, self._engine, kernels)
            self._context = self._engine.create_execution_context(*config)
        if self._context is None:
            raise fault(trt, "no execution context", "MX-M006", plan)
        self.feature_dim = int(self._engine.get_tensor_shape(OUTPUT)[1])

    def __call__(self, images: Tensor) -> Tensor:
        import torch

        if images.dtype != torch.uint8 or images.shape != self._shape or not images.is_contiguous():
            raise ValueError(
                f"the engine takes uint8{list(self._shape)}, got {images.dtype}{list(images.shape)}"
            )
        features_BD = images.new_empty(len(images), self.feature_dim, dtype=torch.float32)
        self._context.set_tensor_address(INPUT, images.data_ptr())
        self._context.set_tensor_address(OUTPUT, features_BD.data_ptr())
        with torch.cuda.device(self._device):
            queued = self._context.execute_async_v3(torch.cuda.current_stream(self._device).cuda_stream)
        if not queued:
            raise fault(self._trt, "the engine does not run", "MX-M006")
        return features_BD

    def kernels(self) -> bytes:
        """The machine code that the first run made for this GPU; empty where the plan holds its own."""
        return bytes(self._cache.serialize()) if self._cache else b""


def _deserialised(trt: Any, runtime: Any, path: Path) -> Any:
    """The engine in the file `path`, once the library has looked whether it fits this machine."""
    plan = path.read_bytes()
    if hasattr(runtime, "get_engine_validity"):  # `tensorrt` got it later than `tensorrt_rtx`
        validity, bits = runtime.get_engine_validity(plan)
        if validity == trt.EngineValidity.INVALID:
            members = trt.EngineInvalidityDiagnostics.__members__.items()
            reasons = [name for name, member in members if bits & int(member)]
            if not reasons:
                raise fault(trt, "the engine does not fit this machine", "MX-M006", path)
            code = "MX-M005" if DAMAGED.intersection(reasons) else "MX-M006"
            words = ", ".join(reason.lower().replace("_", " ") for reason in reasons)
            raise EnvironmentFault(code, f"{trt.__name__} refuses the engine: {words}", path=path)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise fault(trt, "the engine cannot be read", "MX-M005", path)
    return engine


def _shape(trt: Any, engine: Any, batch: int, path: Path) -> tuple[int, ...]:
    """`(B, S, S)` of the pictures that `engine` takes. Raises EnvironmentFault MX-M005 where it is another's engine."""
    names = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
    if names == {INPUT, OUTPUT} and engine.get_tensor_dtype(INPUT) == trt.DataType.UINT8:
        count, _, *sides = engine.get_tensor_shape(INPUT)
        if count == batch:
            return (count, *sides)
    raise EnvironmentFault("MX-M005", f"this is no engine for {batch} radiographs", path=path)


def _kernel_cache(library: Library, engine: Any, kernels: bytes) -> tuple[Any, tuple[Any, ...]]:
    """The cache of compiled kernels, and what `create_execution_context` is to be given with it."""
    if not library.compiles_at_load:
        return None, ()
    config = engine.create_runtime_config()
    cache = config.create_runtime_cache()
    if kernels:
        cache.deserialize(kernels)  # False where driver or GPU have changed: they are then compiled anew
    config.set_runtime_cache(cache)
    return cache, (config,)
