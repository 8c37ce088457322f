"""The processes that train one model together: one alone, or as many as `torchrun` started.

Each process takes its share of every batch, and gradients are averaged over all. The first one writes files and
shows progress. Nothing has to be said: `torchrun` leaves ranks and addresses in the environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mxbatch.engine.runtime.bundle_scorer import usable_device


@dataclass(frozen=True, slots=True)
class Team:
    """This process among those that train."""

    device: torch.device
    rank: int = 0
    size: int = 1

    def total(self, numbers: Tensor) -> Tensor:
        """The sum of `numbers` over all processes, without gradient."""
        numbers = numbers.detach().clone()
        if self.size > 1:
            dist.all_reduce(numbers)
        return numbers

    def together(self, module: nn.Module) -> nn.Module:
        """`module`, its gradients averaged over all processes after each backward.

        Batch norms look at the batches of all GPUs; on CPUs torch has no such norm: each process looks at its own
        batch, and what the first one has seen of them is what all remember.
        """
        if self.size == 1:
            return module
        if self.device.type == "cuda":
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return nn.parallel.DistributedDataParallel(module)


def is_first() -> bool:
    """Whether this is the process that speaks and writes; a process alone is."""
    return _place()[0] == 0


def _place() -> tuple[int, int]:
    """Rank and number of processes, as `torchrun` leaves them in the environment."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    return (int(os.environ.get("RANK", "0")), size) if size > 1 else (0, 1)


@contextmanager
def gathered(device: str = "auto") -> Iterator[Team]:
    """The team of this process, on `device`: auto (CUDA where there is one), cpu, cuda or cuda:N.

    Under `torchrun` each process takes the GPU of its local rank. Raises UsageError MX-U001 where there is
    no such device.
    """
    rank, size = _place()
    chosen = _device(device, int(os.environ.get("LOCAL_RANK", "0")) if size > 1 else None)
    if size == 1:
        yield Team(chosen)
        return
    started = not dist.is_initialized()
    if started:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Team(chosen, rank, size)
    finally:
        if started:
            dist.destroy_process_group()
        if rank == 0:  # goes on alone, and torchrun gave it one core
            torch.set_num_threads(len(os.sched_getaffinity(0)))


def _device(name: str, local_rank: int | None) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and local_rank is not None:
        name = f"cuda:{local_rank}"
    device = usable_device(name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device
