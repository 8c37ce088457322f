"""Batches of codestreams -> pictures as the model wants them, decoded and prepared on a GPU.

A codec gives the luma at full size, on the device. Where the host would decode a JPEG at reduced size, blocks of pixels
are averaged first, because that is what the inverse DCT at reduced size nearly is, and at 1/8 is but for rounding; then
the kernel `prepare` carries out the input contract. What comes back is a few kB per picture.
"""

# S side of the result · H, W rows and columns of a codestream's picture

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from threading import Thread
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mxbatch.engine.decode.contract import InputContract
from mxbatch.engine.offload.streams import Stream

if TYPE_CHECKING:
    import torch

    from mxbatch.kernels.prepare import Picture

BATCH = 32
"""Codestreams per call of a codec: enough to keep its engines busy."""
MOST_PIXELS = 300_000_000
"""Per call: what two bytes each, and four while blocks are averaged, leave of a GPU's memory to the model."""

Pictures = list[NDArray[np.uint8] | None]


class Codec(Protocol):
    """A library that decodes on one device. Used from one thread at a time."""

    def decode(self, streams: Sequence[Stream]) -> list[torch.Tensor | None]:
        """The luma of each, `uint8|uint16[H, W]` on the device; None for what it does not take or cannot decode.

        A picture gives the same bits beside any neighbours. Any exception means that of these nothing was decoded.
        """
        ...


class Batches(Protocol):
    """A decoder of batches."""

    def decode(self, streams: Sequence[Stream]) -> Pictures:
        """`uint8[S, S]` of each, or None: then the host decodes it, and has the last word."""
        ...


class GpuBatches:
    """The decoder of batches on one device; `codecs` has one for every kind of stream that comes."""

    def __init__(self, codecs: Mapping[str, Codec], contract: InputContract, device: str) -> None:
        self._codecs, self._contract, self._device = codecs, contract, device
        self._queue = _queue_of(device)

    def decode(self, streams: Sequence[Stream]) -> Pictures:
        with self._on_device():
            pictures: Pictures = [None] * len(streams)
            for codec in dict.fromkeys(self._codecs[stream.kind] for stream in streams):
                mine = [at for at, stream in enumerate(streams) if self._codecs[stream.kind] is codec]
                decoded = self._decode(codec, [streams[at] for at in mine])
                for at, picture in zip(mine, decoded, strict=True):
                    pictures[at] = picture
            return pictures

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        import torch

        with torch.inference_mode():
            if self._queue is None:
                yield
                return
            with torch.cuda.device(self._device), torch.cuda.stream(self._queue):
                yield

    def _decode(self, codec: Codec, streams: Sequence[Stream]) -> Pictures:
        try:
            return self._attempt(codec, streams)
        except Exception:  # a codec's exceptions have no common base
            if len(streams) == 1:
                return [None]
            # one by one, so that nobody's fate hangs on who else was in the batch
            return [picture for stream in streams for picture in self._decode(codec, [stream])]

    def _attempt(self, codec: Codec, streams: Sequence[Stream]) -> Pictures:
        from mxbatch.kernels.prepare import prepare

        decoded = zip(streams, codec.decode(streams), strict=True)
        usable = [
            (at, _picture(stream, pixels))
            for at, (stream, pixels) in enumerate(decoded)
            if pixels is not None and _fits(stream, pixels)
        ]
        pictures: Pictures = [None] * len(streams)
        if usable:
            made = prepare([picture for _, picture in usable], self._contract.size, self._contract.window)
            images, blank = made.images_BSS.cpu().numpy(), made.blank_B.tolist()
            for n, (at, _) in enumerate(usable):
                pictures[at] = None if blank[n] else images[n]
        return pictures


def _fits(stream: Stream, pixels: torch.Tensor) -> bool:
    """Whether the codec gave what the header, which was checked, promises."""
    import torch

    dtype = torch.uint16 if stream.deep else torch.uint8
    return pixels.dtype == dtype and tuple(pixels.shape) == (stream.height, stream.width)


def _picture(stream: Stream, pixels_HW: torch.Tensor) -> Picture:
    from torch.nn.functional import avg_pool2d

    from mxbatch.kernels.prepare import Picture

    if stream.scale > 1:  # blocks at the right and lower edges average the pixels that they have
        means = avg_pool2d(pixels_HW[None].float(), stream.scale, ceil_mode=True)[0]
        pixels_HW = means.round().to(pixels_HW.dtype)
    return Picture(pixels_HW, stream.width, stream.height, stream.white_is_zero)


def _queue_of(device: str) -> torch.cuda.Stream | None:
    """A stream of its own on a GPU, so that the model's is not waited for."""
    import torch

    return None if device == "cpu" else torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


class Answer(NamedTuple):
    """What became of one codestream."""

    picture: NDArray[np.uint8] | None
    seconds: float
    """Its share of the time that its batch took."""


class Gatherer:
    """Lets many threads, each with one codestream, share the batches of one decoder.

    While a batch is decoded, the next gathers: nobody waits for a batch to fill.
    """

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._queue: SimpleQueue[tuple[Stream, Future[Answer]]] = SimpleQueue()
        Thread(target=self._serve, name="gpu-decode", daemon=True).start()

    def decode(self, stream: Stream) -> Answer:
        """Waits until it is done. Raises what the decoder raises."""
        answer: Future[Answer] = Future()
        self._queue.put((stream, answer))
        return answer.result()

    def _serve(self) -> None:
        while True:
            gathered = self._gather()
            began = perf_counter()
            try:
                pictures = self._batches.decode([stream for stream, _ in gathered])
                share_s = (perf_counter() - began) / len(gathered)
                for (_, answer), picture in zip(gathered, pictures, strict=True):
                    answer.set_result(Answer(picture, share_s))
            except Exception as error:
                for _, answer in gathered:
                    if not answer.done():
                        answer.set_exception(error)

    def _gather(self) -> list[tuple[Stream, Future[Answer]]]:
        gathered = [self._queue.get()]
        pixels = gathered[0][0].pixels
        while len(gathered) < BATCH and pixels < MOST_PIXELS:
            try:
                gathered.append(self._queue.get_nowait())
            except Empty:
                break
            pixels += gathered[-1][0].pixels
        return gathered
