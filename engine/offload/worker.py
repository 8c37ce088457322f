"""A worker's side of the offload: which radiographs go to the GPU's decoder, and the decoder itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.offload.batches import BATCH, Answer, Batches, Codec, Gatherer, GpuBatches
from mxbatch.engine.offload.nvimagecodec import NvImageCodec, hindrance
from mxbatch.engine.offload.split import falls_to_gpu
from mxbatch.engine.offload.streams import Stream, stream_of

WAITING = 2 * BATCH
"""Threads that wait for the decoder: one batch is decoded while another gathers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """What the GPU takes of one kind of stream: settled once per run and kept in its record."""

    share: float
    """0 to 1, of the radiographs."""
    engine: str
    """A key of `nvimagecodec.ENGINES`."""
    gpu_per_s: float
    """Radiographs per second, as measured when the run began: of the GPU's decoder alone."""
    host_per_s: float
    """And of all decoder threads of a worker."""


class GpuOffload:
    """An `Offload` (feed.py) over one decoder of batches."""

    def __init__(
        self, shares: Mapping[str, Share], batches: Batches, contract: InputContract, limits: Limits
    ) -> None:
        self._shares, self._contract, self._limits = shares, contract, limits
        self._gatherer = Gatherer(batches)

    def take(self, path: str, data: bytes) -> Stream | None:
        stream = stream_of(data, self._contract, self._limits)
        if stream is None or stream.kind not in self._shares:
            return None
        return stream if falls_to_gpu(path, self._shares[stream.kind].share) else None

    def decode(self, stream: Stream) -> Answer:
        return self._gatherer.decode(stream)


def open_offload(
    shares: Mapping[str, Share],
    contract: InputContract,
    limits: Limits,
    device: str,
    open_codec: Callable[[str, str], Codec] = NvImageCodec,
) -> GpuOffload | None:
    """The offload of a run, or None where it has none. `open_codec(device, engine)` opens the library.

    Raises EnvironmentFault MX-M007 where this machine cannot do what the run began with: its radiographs would be
    decoded in another way, unnoticed.
    """
    if not shares:
        return None
    if open_codec is NvImageCodec and (why := hindrance(device)):
        raise EnvironmentFault("MX-M007", why)
    try:
        codecs = {engine: open_codec(device, engine) for engine in {one.engine for one in shares.values()}}
    except Exception as error:  # a library's exceptions have no common base; all mean the same
        what = f"nvImageCodec cannot be opened: {str(error).strip() or type(error).__name__}"
        raise EnvironmentFault("MX-M007", what) from error
    by_kind = {kind: codecs[one.engine] for kind, one in shares.items()}
    return GpuOffload(shares, GpuBatches(by_kind, contract, device), contract, limits)
