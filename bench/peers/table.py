"""The ways of doing it that mxbatch is measured against: a table of the files that run them and what these need."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from mxbatch.bench.data import SUFFIXES
from mxbatch.engine.errors import UsageError
from mxbatch.engine.machine import count_gpus

PILLOWS = ("jpeg", "png", "bmp", "tiff")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One way of scoring a folder of radiographs."""

    name: str
    """Also the module beside this file, whose `run` answers an order."""
    title: str
    modules: tuple[str, ...]
    """What it imports."""
    packages: tuple[str, ...]
    """What brings these, for their versions and for pip."""
    precisions: tuple[str, ...] = ("float32", "bfloat16")
    formats: tuple[str, ...] = tuple(SUFFIXES)
    """What it reads, of what the engine reads."""
    gpu: bool = False
    """Whether it needs one."""

    def why_not(self, device: str, formats: Collection[str], precision: str) -> str | None:
        """None where it can run here on these files; else the reason, with what would change it."""
        if self.gpu and (device == "cpu" or not count_gpus()):
            return "needs an NVIDIA GPU"
        if missing := [module for module in self.modules if not _importable(module)]:
            return f"{missing[0]} is not installed: pip install {' '.join(self.packages)}"
        if unread := sorted(set(formats) - set(self.formats)):
            return f"does not read {', '.join(unread)}: --format {' --format '.join(self.formats)}"
        if precision not in self.precisions:
            return f"does not compute in {precision}"
        return None


PEERS = (
    Peer(
        name="loop",
        title="a loop, one picture at a time",
        modules=("torch", "timm"),
        packages=("torch", "timm", "pillow"),
        precisions=("float32",),
    ),
    Peer(
        name="dataloader",
        title="torch DataLoader and timm",
        modules=("torch", "timm"),
        packages=("torch", "timm", "pillow"),
    ),
    Peer(
        name="ray_data",
        title="Ray Data",
        modules=("ray.data",),
        packages=("ray[data]",),
        formats=PILLOWS,
    ),
    Peer(name="daft_frame", title="Daft", modules=("daft",), packages=("daft",), formats=PILLOWS),
    Peer(
        name="onnx_threads",
        title="onnxruntime and threads",
        modules=("onnxruntime", "onnxscript"),
        packages=("onnxruntime", "onnx", "onnxscript"),
        precisions=("float32",),
    ),
    Peer(
        name="dali",
        title="NVIDIA DALI and torch.compile",
        modules=("nvidia.dali",),
        packages=("nvidia-dali-cuda130",),
        formats=PILLOWS,
        gpu=True,
    ),
    Peer(
        name="nvjpeg",
        title="torchvision's GPU decoder and torch.compile",
        modules=("torchvision",),
        packages=("torchvision",),
        formats=("jpeg",),
        gpu=True,
    ),
)


def peers_named(names: Sequence[str]) -> list[Peer]:
    """Those that are named, all when none is. Raises UsageError MX-U001."""
    known = {peer.name: peer for peer in PEERS}
    if unknown := [name for name in names if name not in known]:
        raise UsageError("MX-U001", f"there is no peer {unknown[0]!r}; known are {', '.join(known)}")
    return [known[name] for name in names] or list(PEERS)


def _importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it is missing
        return False
