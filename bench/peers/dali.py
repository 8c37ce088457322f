"""NVIDIA DALI in front of a compiled model: files to the GPU, decoded there by its JPEG units, resized there.

`hybrid` decoding (DALI calls it mixed): the host parses, the device decodes. The model is compiled by torch and runs in
the precision asked for.
"""

from __future__ import annotations

import numpy as np

from mxbatch.bench.peers.order import Order, inference, load_model, padded, write_rows


def run(order: Order) -> None:
    """Answer `order`: one Parquet file."""
    import torch
    from nvidia.dali import fn, pipeline_def, types
    from nvidia.dali.plugin.pytorch import DALIGenericIterator, LastBatchPolicy

    files = order.files

    @pipeline_def(batch_size=order.batch, num_threads=order.cores, device_id=0)
    def pictures():  # type: ignore[no-untyped-def]  # DALI traces it: what goes in and out are nodes of its graph
        encoded, number = fn.readers.file(files=files, labels=list(range(len(files))), name="files")
        grey = fn.decoders.image(encoded, device="mixed", output_type=types.GRAY)
        small = fn.resize(grey, resize_x=order.size, resize_y=order.size)
        return fn.transpose(small, perm=[2, 0, 1]), number

    model = torch.compile(load_model(order))
    feed = DALIGenericIterator(
        pictures(), ["image", "number"], reader_name="files", last_batch_policy=LastBatchPolicy.PARTIAL
    )
    found, order_of = [], []
    with inference(order):
        for (batch,) in feed:
            images = batch["image"]
            found.append(model(padded(images, order.batch))[: len(images)].float())
            order_of.append(batch["number"][:, 0].clone())  # DALI fills it again
    numbers = torch.cat(order_of).cpu().tolist()
    answers_RK = torch.cat(found).cpu().numpy().astype(np.float32)
    write_rows(order, [files[number] for number in numbers], answers_RK)
