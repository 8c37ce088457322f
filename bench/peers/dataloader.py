"""torch's DataLoader in front of a timm model, batched: what a careful researcher writes.

Decoding in a worker process per core, a batch at a time into the model, answers as Parquet; on a GPU pinned memory and
copies that nobody waits for, as torch's own tuning guide has it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mxbatch.bench.naive import open_grey
from mxbatch.bench.peers.order import Order, inference, load_model, write_rows


class Radiographs(Dataset[Tensor]):
    """`uint8[1, S, S]` per file."""

    def __init__(self, files: list[str], size: int) -> None:
        self.files, self.size = files, size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> Tensor:
        return torch.from_numpy(open_grey(self.files[number], self.size))[None]


def run(order: Order) -> None:
    """Answer `order`: one Parquet file."""
    on_gpu = order.device == "cuda"
    model = load_model(order)
    batches = DataLoader(
        Radiographs(order.files, order.size),
        batch_size=order.batch,
        num_workers=order.cores,
        pin_memory=on_gpu,
    )
    with inference(order):
        found = [model(images.to(order.device, non_blocking=on_gpu)).float() for images in batches]
    write_rows(order, order.files, torch.cat(found).cpu().numpy().astype(np.float32))
