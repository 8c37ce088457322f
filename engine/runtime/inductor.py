"""`inductor`: torch's own compiler, ahead of time, for the CPU and for CUDA; the default on a CPU.

The encoder is exported, its weights frozen into the code and laid out as the processor's matrix units want them, and
what stands between the products fused into loops of C++ (on CUDA: Triton). The result is a shared library.
It is unpacked here, once, and opened where it lies: torch's loader would unpack some 100 MB into the temporary
folder at every start, and leave them there when a worker is killed.

ConvNeXt stays in its Linear form: frozen, its products were 9 % faster in bfloat16 than as 1 x 1 convolutions. On CUDA
its depthwise convolutions and their norms become one kernel where that wins a race at build time (fused.py).
"""

# B radiographs · S side · D features

from __future__ import annotations

import os
import shutil
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mxbatch.engine.bundle import Bundle, load_model
from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.machine import has_bfloat16
from mxbatch.engine.runtime.calibration import Sample
from mxbatch.engine.runtime.encoder import EngineSpec, Note, Runtime

if TYPE_CHECKING:
    from torch import Tensor

PACKAGE, UNPACKED, DIM = "encoder.pt2", "encoder", "features.txt"
OPENS_FOLDERS = [2, 14]
"""The first torch that was seen to open an unpacked package (the CPU needs no package)."""
CONFIG: dict[str, Any] = {
    "freezing": True,
    "cpp.dynamic_threads": True,  # else the threads of the process that compiles are written into the code
}


class CompiledEncoder:
    """An `Encoder` over one shared library that inductor made."""

    def __init__(self, runner: Any, feature_dim: int) -> None:
        self._runner = runner
        self.feature_dim = feature_dim

    def __call__(self, images: Tensor) -> Tensor:
        features_BD: Tensor
        (features_BD,) = self._runner.run([images[:, None]])
        return features_BD


def _build(bundle: Bundle, spec: EngineSpec, folder: Path, note: Note, sample: Sample | None) -> None:
    import torch
    from torch._inductor import aoti_compile_and_package

    from mxbatch.engine.runtime.fused import fused_where_faster
    from mxbatch.engine.runtime.layers import in_precision

    note(f"inductor compiles the encoder in {spec.precision} for {spec.batch} radiographs at a time")
    model = load_model(bundle)
    encoder = in_precision(model.encoder, spec.precision).to(memory_format=torch.channels_last)
    encoder.to(spec.device).requires_grad_(False)
    side = bundle.recipe.input.size
    if spec.device != "cpu":
        encoder = fused_where_faster(encoder, spec, side, folder, note)
    example = torch.zeros(spec.batch, 1, side, side, dtype=torch.uint8, device=spec.device)
    package = folder / PACKAGE
    with (
        _own_cache(folder / "scratch"),
        warnings.catch_warnings(),
        torch.no_grad(),
    ):  # gradients would stop freezing
        warnings.filterwarnings("ignore", r"`torch\.jit", DeprecationWarning)  # torch 2.11's own, to itself
        program = torch.export.export(encoder, (example,))
        aoti_compile_and_package(program, package_path=str(package), inductor_configs=CONFIG)
    with zipfile.ZipFile(package) as archive:
        archive.extractall(folder / UNPACKED)
    package.unlink()
    (folder / DIM).write_text(str(model.feature_dim))


@contextmanager
def _own_cache(folder: Path) -> Iterator[None]:
    """Inductor's own cache of code in `folder`, and gone afterwards; by default it lies in /tmp, where others write."""
    name = "TORCHINDUCTOR_CACHE_DIR"
    before = os.environ.get(name)
    os.environ[name] = str(folder)
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before
        shutil.rmtree(folder, ignore_errors=True)


def _load(bundle: Bundle, spec: EngineSpec, folder: Path, threads: int) -> CompiledEncoder:
    import torch
    from torch._C import _aoti

    torch.set_num_threads(threads)  # holds for the whole process
    unpacked = folder / UNPACKED
    try:
        if spec.device == "cpu":
            (library,) = unpacked.glob("**/*.so")
            runner: Any = _aoti.AOTIModelContainerRunnerCpu(str(library), 1)
        else:  # without its own bookkeeping between threads, which a CUDA graph cannot record
            index = torch.device(spec.device).index or 0
            runner = _aoti.AOTIModelPackageLoader(str(unpacked), "model", True, 1, index)
        feature_dim = int((folder / DIM).read_text())
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise EnvironmentFault(
            "MX-M005", f"torch refuses the compiled encoder: {reason}", path=folder
        ) from error
    return CompiledEncoder(runner, feature_dim)


def compiler() -> str | None:
    """The C++ compiler that inductor would call, or None."""
    return shutil.which(os.environ.get("CXX", "g++"))


def _usable(device: str) -> str | None:
    if compiler() is None:
        return "there is no C++ compiler: apt-get install g++, or conda install gxx"
    if device != "cpu" and [int(number) for number in version("torch").split(".")[:2]] < OPENS_FOLDERS:
        return "torch opens unpacked packages on CUDA from 2.14 on: pip install --upgrade torch"
    return None


def _precisions(device: str) -> tuple[str, ...]:
    if device != "cpu":
        return ("bfloat16", "float16", "float32")
    return ("bfloat16", "float32") if has_bfloat16() else ("float32",)


RUNTIME = Runtime(
    name="inductor",
    summary="torch's compiler, ahead of time; needs a C++ compiler once",
    precisions=_precisions,
    distributions=("torch", "timm"),
    usable=_usable,
    build=_build,
    load=_load,
)
