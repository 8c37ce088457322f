"""onnxruntime and a pool of threads: what an engineer writes who wants neither torch nor a framework at run time.

Threads decode ahead, one per core; the graph takes whole batches with as many threads. The graph is the engine's own
export of the encoder, rearranged for compilers; the small head runs as it is in the bundle.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mxbatch.bench.naive import open_grey
from mxbatch.bench.peers.order import Order, load_model, write_rows

AHEAD = 2
"""Batches decoded beyond the one that is computed."""


def run(order: Order) -> None:
    """Answer `order`: one Parquet file."""
    import onnxruntime
    import torch

    from mxbatch.engine.bundle import read_bundle
    from mxbatch.engine.runtime.encoder import EngineSpec
    from mxbatch.engine.runtime.onnx_graph import INPUT, write_onnx

    model: Any = load_model(order)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = order.cores
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "encoder.onnx"
        spec = EngineSpec(device="cpu", precision="float32", batch=order.batch)
        write_onnx(read_bundle(Path(order.bundle)), spec, graph)
        session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    found = []
    with ThreadPoolExecutor(order.cores) as pool, torch.inference_mode():
        for images in _batches(order, pool):
            count = len(images)
            whole = np.concatenate([images, np.zeros((order.batch - count, *images.shape[1:]), np.uint8)])
            (features,) = session.run(None, {INPUT: whole[:, None]})
            features_B1D = torch.from_numpy(features[:count])[:, None]
            views_B1 = torch.zeros(features_B1D.shape[:2], dtype=torch.long)
            found.append(model.head(features_B1D, views_B1, views_B1 == 0).sigmoid().numpy())
    write_rows(order, order.files, np.concatenate(found))


def _batches(order: Order, pool: ThreadPoolExecutor) -> Iterator[NDArray[np.uint8]]:
    """`uint8[batch or fewer, S, S]`, decoded ahead."""
    window: deque[Future[NDArray[np.uint8]]] = deque()
    files = iter(order.files)
    while True:
        while len(window) < (1 + AHEAD) * order.batch and (path := next(files, None)):
            window.append(pool.submit(open_grey, path, order.size))
        if not window:
            return
        yield np.stack([window.popleft().result() for _ in range(min(order.batch, len(window)))])
