"""How much of the decoding a GPU takes off the cores: planned from measured rates, and the same in every session.

Two things work side by side: the host's decoder threads, and the GPU's decoder. Both should be done at the same time.
A share is a property of the run, and which radiographs fall under it follows from their paths alone. So a specimen's
numbers do not depend on who happened to be free, and a run that was killed goes on as it began.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

LEAST = 0.05
"""A smaller share of a kind is not worth a second way of decoding it."""
STEPS = 1000
"""Shares are whole thousandths, as `run.json` shows them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """The radiographs of one kind in a run."""

    kind: str
    count: float
    host_per_s: float
    """Radiographs per second of all decoder threads together."""
    gpu_per_s: float = 0.0
    """Of the GPU's decoder; 0 where it does not take them."""


def shares(loads: Sequence[Load], gpu_busy_s: float = 0.0) -> dict[str, float]:
    """The share of each kind for the GPU, 0 to 1, with which host and GPU are done at the same time, or nearly.

    `gpu_busy_s` are seconds that the GPU spends on the model. Kinds at which the GPU is furthest ahead go there first;
    with two machines and divisible work no other order ends earlier.
    """
    host_s = sum(load.count / load.host_per_s for load in loads)
    gpu_s = gpu_busy_s
    found = dict.fromkeys((load.kind for load in loads), 0.0)
    able = [load for load in loads if load.gpu_per_s > 0 and load.count > 0]
    for load in sorted(able, key=lambda load: (-load.gpu_per_s / load.host_per_s, load.kind)):
        on_host, on_gpu = load.count / load.host_per_s, load.count / load.gpu_per_s
        share = min(1.0, max(0.0, (host_s - gpu_s) / (on_host + on_gpu)))
        share = int(share * STEPS) / STEPS  # down: rounded up, a slow GPU could end later than the host alone
        if share < LEAST:
            break
        found[load.kind] = share
        host_s, gpu_s = host_s - share * on_host, gpu_s + share * on_gpu
        if share < 1:
            break  # both are done at the same time now; what rounding has left is no reason to divide another kind
    return found


def seconds(
    loads: Iterable[Load], split: Mapping[str, float], gpu_busy_s: float = 0.0
) -> tuple[float, float]:
    """How long the host's threads and the GPU work under `split`."""
    host_s, gpu_s = 0.0, gpu_busy_s
    for load in loads:
        share = split.get(load.kind, 0.0)
        host_s += (1 - share) * load.count / load.host_per_s
        if share:
            gpu_s += share * load.count / load.gpu_per_s
    return host_s, gpu_s


def falls_to_gpu(path: str, share: float) -> bool:
    """Whether the radiograph at `path` is among the `share` of its kind that the GPU decodes."""
    return crc32(path.encode(errors="surrogateescape")) < share * 2**32
