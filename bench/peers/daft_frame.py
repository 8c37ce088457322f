"""Daft, as its documentation has it: glob, download, decode and resize as expressions, the model as a batch UDF.

Daft decodes in its own threads, in Rust; the model is loaded once per process.
"""

from __future__ import annotations

from typing import Any

from mxbatch.bench.peers.order import Order, inference, load_model


def run(order: Order) -> None:
    """Answer `order`: Daft's own Parquet files."""
    import daft
    from daft import DataType, Series, col
    from daft.functions import decode_image, download, resize

    @daft.cls
    class Scorer:
        def __init__(self) -> None:
            self.model = load_model(order)

        @daft.method.batch(return_dtype=DataType.list(DataType.float32()), batch_size=order.batch)
        def score(self, pictures: Series) -> Any:
            import numpy as np
            import torch

            images = np.stack([np.asarray(picture)[..., 0] for picture in pictures.to_pylist()])
            with inference(order):
                found = self.model(torch.from_numpy(images)[:, None].to(order.device))
            return found.float().cpu().tolist()

    scorer: Any = Scorer()  # its methods take series, and expressions in their place
    pictures = resize(decode_image(download(col("path")), mode="L"), order.size, order.size)
    (
        daft.from_glob_path(f"{order.radiographs}/*")
        .with_column("picture", pictures)
        .with_column("answer", scorer.score(col("picture")))
        .select("path", "answer")
        .write_parquet(order.out)
    )
