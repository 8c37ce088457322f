"""From indices to tensors, a few steps ahead of the model, in threads.

Which radiographs are left out and how the others are changed is drawn from the step's own random numbers, so a
batch is the same whether it is loaded early, late, or again after a crash.
"""

# N specimens · T radiographs per specimen · B radiographs · S side

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from mxbatch.trainer.augment import apply, draw_change
from mxbatch.trainer.training import Augment

Item = TypeVar("Item")


def threads_for(device: torch.device) -> int:
    """How many load at a time: one where the model computes on the same cores, else up to eight of them.

    torch shares out every layer among the cores and waits for the last of them, so on a CPU each thread beside
    it costs more than it brings.
    """
    return 1 if device.type == "cpu" else min(8, len(os.sched_getaffinity(0)))


def ahead(load: Callable[[int], Item], count: int, *, threads: int = 1) -> Iterator[Item]:
    """`load(0)`, `load(1)`, ... `load(count - 1)` in this order, each begun before it is asked for."""
    with ThreadPoolExecutor(threads, thread_name_prefix="loader") as pool:
        pending: deque[Future[Item]] = deque()
        for number in range(count):
            pending.append(pool.submit(load, number))
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def augmented(images_BSS: NDArray[np.uint8], limits: Augment, rng: np.random.Generator) -> NDArray[np.uint8]:
    """`uint8[B, S, S]`, each radiograph changed by chance."""
    changed = [apply(draw_change(limits, rng), picture) for picture in images_BSS]
    return np.stack(changed) if changed else images_BSS


def keep_some(mask_NT: NDArray[np.bool_], dropout: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """`mask_NT` with radiographs left out by chance, never the last one of a specimen."""
    chance_NT = rng.random(mask_NT.shape)
    luckiest_N = np.where(mask_NT, chance_NT, -1.0).argmax(axis=1)
    kept_NT = mask_NT & (chance_NT >= dropout)
    rows = np.arange(len(mask_NT))
    kept_NT[rows, luckiest_N] = mask_NT[rows, luckiest_N]
    return kept_NT
