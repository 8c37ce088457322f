"""NVIDIA's nvImageCodec: JPEG, JPEG 2000 and lossless JPEG, decoded on one of its GPUs (extra `mxbatch[nvimgcodec]`).

Two engines are kept apart: `hardware`, the JPEG decoder beside the cores of data centre GPUs, and `cuda`, everything
else. Left to itself the library would share a batch out between them as they are free, and their pictures may differ
in a bit: a specimen's numbers would depend on its neighbours. Its own CPU decoders are left out: ours are strict.

Its Python interface as of 0.9: https://docs.nvidia.com/cuda/nvimagecodec/py_api.html
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from mxbatch.engine.offload.streams import Stream

if TYPE_CHECKING:
    import torch

ENGINES: dict[str, tuple[str, ...]] = {
    "hardware": ("HW_GPU_ONLY",),
    "cuda": ("GPU_ONLY", "HYBRID_CPU_GPU"),
}
"""Name -> the library's kinds of backend."""
PACKAGES = ("nvidia-nvimgcodec-cu13", "nvidia-nvimgcodec-cu12")
"""Of which the one for torch's CUDA has to be there."""
OLDEST = (0, 9)


class NvImageCodec:
    """A `Codec` over one engine of one GPU."""

    def __init__(self, device: str, engine: str) -> None:
        import torch
        from nvidia import nvimgcodec

        self._library: Any = nvimgcodec
        index = torch.device(device).index or 0
        kinds = [getattr(nvimgcodec.BackendKind, name) for name in ENGINES[engine]]
        self._decoder = nvimgcodec.Decoder(
            device_id=index, max_num_cpu_threads=1, backends=[nvimgcodec.Backend(kind) for kind in kinds]
        )
        self._params = nvimgcodec.DecodeParams(
            apply_exif_orientation=False,  # as the input contract has it
            color_spec=nvimgcodec.ColorSpec.GRAY,
            allow_any_depth=True,
        )

    def decode(self, streams: Sequence[Stream]) -> list[torch.Tensor | None]:
        """On torch's current stream; `uint8|uint16[H, W]` each."""
        import torch
        from torch.utils.dlpack import from_dlpack

        code = [self._library.CodeStream(stream.data) for stream in streams]
        queue = torch.cuda.current_stream()
        images = self._decoder.decode(code, params=self._params, cuda_stream=queue.cuda_stream)
        return [None if image is None else _luma(from_dlpack(image)) for image in images]


def _luma(pixels: torch.Tensor) -> torch.Tensor:
    """`[H, W, 1]` or `[H, W]` -> `[H, W]`."""
    return pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels


def hindrance(device: str) -> str | None:
    """Why nvImageCodec cannot be used on `device`, in a line that ends with what would help; imports nothing heavy."""
    if not device.startswith("cuda"):
        return "nvImageCodec decodes on NVIDIA's GPUs: --device cuda"
    found = next(filter(None, map(_version, PACKAGES)), None)
    if found is None:
        return "nvImageCodec is not installed: pip install 'mxbatch[nvimgcodec]'"
    if tuple(int(part) for part in found.split(".")[:2]) < OLDEST:
        return f"nvImageCodec {found} is too old: pip install --upgrade 'mxbatch[nvimgcodec]'"
    return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
