"""What every peer is told, and what it shares with the others: the weights, and how answers are written.

A peer is one small file, written after the documentation of what it uses. Nothing of the engine's speed is lent to it.
"""

# B radiographs · S side · K nodes of the taxonomy

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One run of one peer."""

    radiographs: str
    """The folder of the files, all of which are to be scored."""
    out: str
    """A new folder for the answers: CSV or Parquet, a row per radiograph."""
    bundle: str
    size: int
    """S."""
    device: str
    """`cpu` or `cuda`."""
    precision: str
    batch: int
    cores: int

    @property
    def files(self) -> list[str]:
        """Every radiograph, in order."""
        return [str(path) for path in sorted(Path(self.radiographs).iterdir())]

    def as_json(self) -> str:
        """For a command line."""
        return json.dumps(asdict(self))


def load_model(order: Order) -> nn.Module:
    """The bundle's own weights as one module: `uint8[B, 1, S, S]` to probabilities `float32[B, K]`.

    Each radiograph is taken for a specimen of its own: peers know no specimens.
    """
    import torch
    from torch import nn

    from mxbatch.engine.bundle import load_model as load_bundle
    from mxbatch.engine.bundle import read_bundle

    whole = load_bundle(read_bundle(Path(order.bundle)))

    class OfOneRadiograph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.head = whole.encoder, whole.head

        def forward(self, images_B1SS: Tensor) -> Tensor:
            features_B1D = self.encoder(images_B1SS)[:, None].float()
            views_B1 = torch.zeros(features_B1D.shape[:2], dtype=torch.long, device=images_B1SS.device)
            logits_BK: Tensor = self.head(features_B1D, views_B1, torch.ones_like(views_B1, dtype=torch.bool))
            return logits_BK.sigmoid()

    model = OfOneRadiograph().eval().to(order.device)
    return model.to(memory_format=torch.channels_last) if order.precision != "float32" else model


@contextmanager
def inference(order: Order) -> Iterator[None]:
    """No gradients, and autocast where another precision than float32 is asked for."""
    import torch

    dtype = getattr(torch, order.precision)
    with torch.inference_mode(), torch.autocast(order.device, dtype, enabled=dtype != torch.float32):
        yield


def padded(images: Tensor, batch: int) -> Tensor:
    """`images` and zeros, `batch` in all: a compiled model is then compiled once, and not again for the last batch."""
    import torch

    missing = batch - len(images)
    return torch.cat([images, images.new_zeros(missing, *images.shape[1:])]) if missing else images


def write_rows(order: Order, paths: Sequence[str], answers_RK: NDArray[np.float32], part: int = 0) -> None:
    """A Parquet file of paths and their numbers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    Path(order.out).mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns_of(paths, answers_RK)), Path(order.out) / f"part-{part}.parquet")


def columns_of(paths: Sequence[str], answers_RK: NDArray[np.float32]) -> dict[str, Any]:
    """`path`, and a column per node."""
    return {"path": list(paths), **{f"p{k}": column for k, column in enumerate(answers_RK.T)}}
