"""Ray Data, as its guide to batch inference has it: read_images, map_batches with actors, write_parquet.

Pictures are resized while they are read, so that small ones travel through the object store. Half of the cores decode
and half of them run the model, each actor with one; a GPU gets one actor of its own.
"""

from __future__ import annotations

from typing import Any

from mxbatch.bench.peers.order import Order, columns_of, inference, load_model


class Scorer:
    """One actor: loads the model once."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.model = load_model(order)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        import torch

        images = torch.from_numpy(batch["image"].copy())[:, None]
        with inference(self.order):
            found = self.model(images.to(self.order.device)).float().cpu().numpy()
        return columns_of(batch["path"], found)


def run(order: Order) -> None:
    """Answer `order`: Ray's own Parquet files."""
    import ray

    ray.init(num_cpus=order.cores, include_dashboard=False, log_to_driver=False)
    on_gpu = order.device == "cuda"
    ray.data.DataContext.get_current().enable_progress_bars = False
    (
        ray.data.read_images(order.radiographs, size=(order.size, order.size), mode="L", include_paths=True)
        .map_batches(
            Scorer,
            fn_constructor_args=(order,),
            batch_size=order.batch,
            compute=ray.data.ActorPoolStrategy(size=1 if on_gpu else max(1, order.cores // 2)),
            num_cpus=1,
            num_gpus=1 if on_gpu else None,
        )
        .write_parquet(order.out)
    )
    ray.shutdown()
