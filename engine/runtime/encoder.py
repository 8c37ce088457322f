"""The seam between the frame and the compilers: what a runtime must be able to do, and nothing else.

Only the encoder is compiled; the head is small and always runs in plain float32 (head.py). So a runtime is four
functions and a few words. Its file is imported whenever the table is read: torch and all else that is
heavy waits inside the functions.
"""

# B radiographs, always `spec.batch` of them · S side · D features

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mxbatch.engine.bundle import Bundle
from mxbatch.engine.runtime.calibration import CALIBRATED, Sample

if TYPE_CHECKING:
    from torch import Tensor

PRECISIONS = ("float32", "bfloat16", "float16", *CALIBRATED)
Note = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSpec:
    """For what an encoder is built: one machine, one precision, one batch."""

    device: str
    """`cpu` or `cuda:<n>`."""
    precision: str
    """One of `PRECISIONS`: of weights and activations; normalisation layers stay in float32."""
    batch: int
    sample: str = ""
    """Digest of the radiographs that it was calibrated on; empty where the precision needs none."""


class Encoder(Protocol):
    """A loaded encoder on one device, for one batch. Used from one thread at a time."""

    feature_dim: int
    """D."""

    def __call__(self, images: Tensor) -> Tensor:
        """`uint8[B, S, S] -> float32[B, D]`, both contiguous and on the encoder's own device.

        A picture gives the same bits in any slot and beside any neighbours. On CUDA the work is queued on
        torch's current stream and not waited for, and neither the host's memory nor another stream is touched: so it
        can be recorded in a CUDA graph, which cuda_pipeline.py does for every runtime alike.
        Raises torch.OutOfMemoryError where the device has too little memory for the batch.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """One entry of the table: a name, and what can be done with it. Each lives in a file of its own."""

    name: str
    summary: str
    """One line for `mxbatch info` and the documentation."""
    precisions: Callable[[str], tuple[str, ...]]
    """device -> the precisions that it can compute in there; the first is the default."""
    calibrated: tuple[str, ...] = ()
    """Those of `calibration.CALIBRATED` that it computes in, once they were calibrated; never chosen by themselves."""
    distributions: tuple[str, ...]
    """Installed packages whose versions are part of an engine's key: another version is another engine."""
    usable: Callable[[str], str | None]
    """device -> None; or why not, in a line that ends with the command that would make it usable.

    Is asked before anything heavy is imported, and answers in milliseconds."""
    build: Callable[[Bundle, EngineSpec, Path, Note, Sample | None], None] | None
    """(bundle, spec, folder, note, sample): writes the engine's files into the empty `folder`. None where there is
    nothing to build. `note` takes a line on what goes on; `sample` is what `spec` is to be calibrated on, if it has to
    be. Any exception means that it cannot be built here."""
    load: Callable[[Bundle, EngineSpec, Path, int], Encoder]
    """(bundle, spec, folder, threads): the encoder, from the files that `build` wrote; they are verified before.

    `threads` is the number of CPU threads that one call may use. Raises EnvironmentFault MX-M005 where the library
    refuses the files: they are then rebuilt once."""
