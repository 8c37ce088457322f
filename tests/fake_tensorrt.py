"""TensorRT's interface as far as running an engine goes, over a CPU: for machines without the library or a GPU."""

from __future__ import annotations

import ctypes
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np

from mxbatch.engine.runtime.onnx_graph import INPUT, OUTPUT
from mxbatch.engine.runtime.tensorrt_library import log_of

BATCH, SIDE, D = 3, 5, 2


class Severity(IntEnum):
    ERROR = 1


class FakeTensorRT:
    """TensorRT as far as running goes. Its engine's features are the sum of the grey levels, and the first of them."""

    __name__ = "fake"
    EngineValidity = SimpleNamespace(INVALID=2)
    EngineInvalidityDiagnostics = SimpleNamespace(
        __members__={"VERSION_MISMATCH": 1, "UNSUPPORTED_CC": 2, "MALFORMED_ENGINE": 32}
    )
    DataType = SimpleNamespace(UINT8="uint8")

    class ILogger:
        ERROR = Severity.ERROR

    def __init__(self) -> None:
        self.validity = (0, 0)
        self.silent: set[str] = set()  # the calls that give nothing, after saying `says`
        self.says = "Error Code 1: odd"
        self.batch = BATCH
        self.streams: list[int] = []
        self.caches: list[bytes] = []
        self.Runtime = lambda log: self._or_nothing("Runtime", FakeRuntime(self))

    def _or_nothing(self, call: str, value: Any) -> Any:
        if call in self.silent:
            log_of(self).log(Severity.ERROR, self.says)
            return None
        return value


class FakeRuntime:
    def __init__(self, trt: FakeTensorRT) -> None:
        self.trt = trt

    def get_engine_validity(self, plan: bytes) -> tuple[int, int]:
        return self.trt.validity

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        return self.trt._or_nothing("deserialize", FakeEngine(self.trt))


class FakeEngine:
    num_io_tensors = 2

    def __init__(self, trt: FakeTensorRT) -> None:
        self.trt = trt
        self.shapes = {INPUT: (trt.batch, 1, SIDE, SIDE), OUTPUT: (trt.batch, D)}

    def get_tensor_name(self, index: int) -> str:
        return (OUTPUT, INPUT)[index]

    def get_tensor_dtype(self, name: str) -> str:
        return {INPUT: "uint8", OUTPUT: "float32"}[name]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def create_runtime_config(self) -> Any:
        cache = SimpleNamespace(deserialize=self.trt.caches.append, serialize=lambda: b"kernels")
        return SimpleNamespace(create_runtime_cache=lambda: cache, set_runtime_cache=self.trt.caches.append)

    def create_execution_context(self, *config: Any) -> Any:
        return self.trt._or_nothing("context", FakeContext(self.trt))


class FakeContext:
    def __init__(self, trt: FakeTensorRT) -> None:
        self.trt = trt
        self.addresses: dict[str, int] = {}

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        self.trt.streams.append(stream)
        images = np.ctypeslib.as_array(
            ctypes.cast(self.addresses[INPUT], ctypes.POINTER(ctypes.c_uint8)), (BATCH, SIDE * SIDE)
        )
        features = np.ctypeslib.as_array(
            ctypes.cast(self.addresses[OUTPUT], ctypes.POINTER(ctypes.c_float)), (BATCH, D)
        )
        features[:] = np.stack([images.sum(axis=1), images[:, 0]], axis=1)
        return self.trt._or_nothing("execute", True) is True
