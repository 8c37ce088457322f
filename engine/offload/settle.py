"""Once per run, before its first shard: what the GPU decodes, from what was measured. Imports no torch.

The answer stands in `run.json` and holds for every session of the run, because radiographs decoded on a GPU differ a
little from those of the host (trial.py says by how much).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mxbatch.engine.bundle import Bundle
from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.ledger import RunRecord
from mxbatch.engine.machine import Crew
from mxbatch.engine.offload.apart import try_apart
from mxbatch.engine.offload.nvimagecodec import hindrance
from mxbatch.engine.offload.split import Load, shares
from mxbatch.engine.offload.trial import Order, Tried
from mxbatch.engine.offload.worker import Share
from mxbatch.engine.plan import Plan
from mxbatch.engine.settings import AUTO, Settings

HOST, GPU = "cpu", "gpu"
"""Of `--decode`, beside `auto`."""
SAMPLE = 96
"""Radiographs that are tried: enough to know the kinds and their rates within some percent."""
FEWEST = 2000
"""Radiographs of a run below which `auto` does not try: the trial takes as long as it could save."""

Note = Callable[[str], None]
Try = Callable[[Order, Note], Mapping[str, Tried]]


@dataclass(frozen=True, slots=True)
class DecodeWish:
    """What the user said, and what the run is."""

    asked: Settings
    archive: Path
    plan: Plan
    bundle: Bundle
    crew: Crew
    elsewhere: bool = False
    """Whether the GPUs are those of other machines."""
    model_per_s: float = 0.0
    """Radiographs per second that a worker's model computes, where it was measured."""


def require_gpu_decode(asked: Settings, device: str) -> None:
    """Refuse early what cannot be. Raises EnvironmentFault MX-M007."""
    if asked.decode == GPU and (why := hindrance(device)):
        raise EnvironmentFault("MX-M007", why)


def settle_offload(wish: DecodeWish, record: RunRecord, note: Note, trial: Try | None = None) -> None:
    """Write into `record.decode` what the GPU decodes: `{kind: Share as plain data}`; empty, the host decodes all.

    What `--decode gpu` asked for and cannot be had raises EnvironmentFault MX-M007; under `auto` the host takes its
    place.
    """
    if record.decode is None and record.resumed:  # begun before there was a choice, or before it was made
        record.decode = {}
    if record.decode is None:
        record.decode = {
            kind: asdict(share) for kind, share in _settle(wish, note, trial or try_apart).items()
        }
    elif record.decode:
        record.decode = _again(wish, record.decode, note)


def _again(wish: DecodeWish, before: dict[str, Any], note: Note) -> dict[str, Any]:
    """As the run began, so that its rows are those of an undisturbed one; unless that is impossible, or not wanted."""
    why = "as was asked for" if wish.asked.decode == HOST else _hindrance(wish)
    if why is None:
        return before
    note(
        f"the run began with radiographs decoded on the GPU, and goes on without ({why}): its other rows may differ "
        "in the last digits from what they would have been"
    )
    return {}


def _settle(wish: DecodeWish, note: Note, trial: Try) -> dict[str, Share]:
    why = _hindrance(wish)
    if wish.asked.decode == HOST:
        return {}
    if why:
        if wish.asked.decode == GPU:
            raise EnvironmentFault("MX-M007", why)
        if not wish.elsewhere and wish.crew.devices[0] != "cpu":
            note(f"radiographs are decoded on the host: {why}")
        return {}
    if wish.asked.decode == AUTO and wish.plan.radiographs < FEWEST:
        return {}
    order = Order(
        root=wish.archive,
        paths=sample(wish.plan, SAMPLE),
        contract=wish.bundle.recipe.input,
        limits=wish.asked.limits,
        device=wish.crew.devices[0],
        threads=wish.crew.decode_threads,
    )
    tried = trial(order, note)
    busy_s = wish.plan.radiographs / (wish.model_per_s * len(wish.crew.devices)) if wish.model_per_s else 0.0
    able = {kind for kind, one in tried.items() if one.engine}
    if wish.asked.decode == GPU:
        if not able:
            what = "no kind of radiograph in this run can be decoded there"
            raise EnvironmentFault("MX-M007", what, path=wish.archive)
        found = {kind: _share(tried[kind], 1.0) for kind in tried if kind in able}
    else:
        found = divide(tried, wish.plan.radiographs, len(wish.crew.devices), busy_s)
    note(told(found, able))
    return found


def _hindrance(wish: DecodeWish) -> str | None:
    if wish.elsewhere:
        return "this machine has no GPU to try it on: --decode cpu"
    if wish.bundle.recipe.input.upright:
        return "this model wants the animal turned, which the host does: --decode cpu"
    return hindrance(wish.crew.devices[0])


def sample(plan: Plan, count: int) -> tuple[str, ...]:
    """The paths of about `count` radiographs that the index took, from all over the plan."""
    usable = [
        path
        for path, code in zip(*(plan.table[name].to_pylist() for name in ("path", "code")), strict=True)
        if code is None
    ]
    return tuple(usable[:: max(1, len(usable) // count)][:count])


def divide(tried: Mapping[str, Tried], radiographs: int, workers: int, busy_s: float) -> dict[str, Share]:
    """The GPU's share of each kind; kinds of which it takes nothing are left out."""
    known = sum(one.count for one in tried.values())
    loads = [
        Load(
            kind=kind,
            count=radiographs * one.count / known,
            host_per_s=one.host_per_s * workers,
            gpu_per_s=one.gpu_per_s * workers,
        )
        for kind, one in tried.items()
    ]
    return {kind: _share(tried[kind], share) for kind, share in shares(loads, busy_s).items() if share}


def _share(one: Tried, share: float) -> Share:
    return Share(
        share=share,
        engine=one.engine,
        gpu_per_s=round(one.gpu_per_s, 1),
        host_per_s=round(one.host_per_s, 1),
    )


def told(found: Mapping[str, Share], able: Collection[str]) -> str:
    """The division in a line; `able` are the kinds that the GPU could decode."""
    if not found:
        why = "the GPU would not end sooner" if able else "nothing in this run is for the GPU"
        return f"radiographs are decoded on the host: {why}"
    parts = (
        f"{one.share:.0%} of {kind} (measured {one.gpu_per_s:.3g}/s against {one.host_per_s:.3g}/s on the host)"
        for kind, one in found.items()
    )
    return f"the GPU decodes {', '.join(parts)}"
