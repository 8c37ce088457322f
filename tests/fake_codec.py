"""A codec for GPUs that are not here: decodes on the CPU, at full size, as nvImageCodec does on its device."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import imagecodecs
import numpy as np
import simplejpeg
import torch
from PIL import Image

from mxbatch.engine.offload.streams import JPEG, JPEG_2000, Stream


class FakeCodec:
    """A `Codec`. What it cannot decode is None; `seen` has the sizes of its batches."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def decode(self, streams: Sequence[Stream]) -> list[torch.Tensor | None]:
        self.seen.append(len(streams))
        return [self.one(stream) for stream in streams]

    def one(self, stream: Stream) -> torch.Tensor | None:
        try:
            return torch.from_numpy(pixels_of(stream))
        except Exception:
            return None


class Lenient(FakeCodec):
    """Makes a picture of what is left, as many decoders do."""

    def one(self, stream: Stream) -> torch.Tensor | None:
        found = super().one(stream)
        if found is None and stream.kind == JPEG:
            with Image.open(BytesIO(stream.data)) as picture:
                return torch.from_numpy(np.array(picture.convert("L")))
        return found


class Shifted(FakeCodec):
    """Its pictures lie a few columns further right: a decoder that is wrong."""

    def one(self, stream: Stream) -> torch.Tensor | None:
        found = super().one(stream)
        return None if found is None else found.roll(stream.width // 20, dims=1)


class Sociable(FakeCodec):
    """Its pictures depend on how many are in the batch."""

    def decode(self, streams: Sequence[Stream]) -> list[torch.Tensor | None]:
        found = super().decode(streams)
        if len(streams) > 1:
            for pixels in found:
                if pixels is not None:
                    pixels[::9, ::9] ^= 3
        return found


class Touchy(FakeCodec):
    """Raises for the whole batch where one of it cannot be decoded."""

    def one(self, stream: Stream) -> torch.Tensor | None:
        return torch.from_numpy(pixels_of(stream))


def pixels_of(stream: Stream) -> np.ndarray:
    """The luma, `uint8|uint16[H, W]`; raises what the libraries raise."""
    if stream.kind == JPEG:
        return simplejpeg.decode_jpeg(stream.data, "GRAY")[:, :, 0].copy()  # strict
    if stream.kind == JPEG_2000:
        return imagecodecs.jpeg2k_decode(stream.data).copy()
    return imagecodecs.jpegsof3_decode(stream.data).copy()
