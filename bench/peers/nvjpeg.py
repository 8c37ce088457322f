"""torchvision's GPU decoder in front of a compiled model: JPEGs go to nvJPEG, and never come back as pixels."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from mxbatch.bench.peers.order import Order, inference, load_model, padded, write_rows


def run(order: Order) -> None:
    """Answer `order`: one Parquet file. Reads JPEG only."""
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg
    from torchvision.transforms.v2.functional import resize

    model = torch.compile(load_model(order))
    found = []
    with inference(order), ThreadPoolExecutor(order.cores) as pool:
        for encoded in _encoded(order, pool):
            pictures = decode_jpeg(encoded, mode=ImageReadMode.GRAY, device="cuda")
            small = [resize(picture, [order.size, order.size], antialias=True) for picture in pictures]
            found.append(model(padded(torch.stack(small), order.batch))[: len(small)].float())
    write_rows(order, order.files, torch.cat(found).cpu().numpy().astype(np.float32))


def _encoded(order: Order, pool: ThreadPoolExecutor) -> Iterator[list[Any]]:
    """The bytes of a batch of files, the next batch read while one is decoded."""
    from torchvision.io import read_file

    files = order.files
    groups = [files[at : at + order.batch] for at in range(0, len(files), order.batch)]
    ahead = [pool.submit(read_file, path) for path in groups[0]]
    for following in [*groups[1:], []]:
        ready = [future.result() for future in ahead]
        ahead = [pool.submit(read_file, path) for path in following]
        yield ready
