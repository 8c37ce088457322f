"""Where training stands, on disk: everything that the next epoch depends on, replaced whole after each epoch.

What comes next is a function of the seed and of where training stands, so a training that was killed and
started again ends with the same weights, bit for bit. A checkpoint belongs to one recipe, one taxonomy, one set
of data and one split, and says so; it is read without running anything.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mxbatch.engine.errors import EnvironmentFault, UsageError
from mxbatch.engine.storage import write_atomically

FILE = "checkpoint.pt"


@dataclass(kw_only=True, slots=True)
class Checkpoint:
    """After `epoch` epochs of phase number `phase` (both from 0)."""

    identity: Mapping[str, str]
    """What the training is about -> a hash of it; see `identity_of`."""
    phase: int
    epoch: int
    model: dict[str, Any]
    mean: dict[str, Any]
    """The running mean of the weights."""
    optimiser: dict[str, Any]
    history: list[dict[str, Any]]
    """The rows of metrics.csv."""


def identity_of(**parts: object) -> dict[str, str]:
    """A short hash of each part, which JSON must be able to hold."""
    return {
        name: hashlib.sha256(json.dumps(part, sort_keys=True, default=str).encode()).hexdigest()[:16]
        for name, part in parts.items()
    }


def write_checkpoint(run: Path, checkpoint: Checkpoint) -> None:
    """Whole or not at all. Raises EnvironmentFault MX-E004 or MX-E005."""
    buffer = io.BytesIO()
    torch.save({name: getattr(checkpoint, name) for name in Checkpoint.__slots__}, buffer)
    write_atomically(run / FILE, buffer.getvalue())


def read_checkpoint(run: Path, identity: Mapping[str, str]) -> Checkpoint | None:
    """The checkpoint in `run`, on the CPU; None where there is none.

    Raises UsageError MX-T005 where it belongs to another training, naming what differs, and EnvironmentFault
    MX-E009 where it cannot be read.
    """
    path = run / FILE
    if not path.exists():
        return None
    try:
        checkpoint = Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, TypeError, EOFError, pickle.UnpicklingError) as error:
        fix = "remove it: training begins anew"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EnvironmentFault(
            "MX-E009", f"the checkpoint cannot be read: {reason}", path=path, fix=fix
        ) from error
    other = [name for name, digest in identity.items() if checkpoint.identity.get(name) != digest]
    if other:
        raise UsageError(
            "MX-T005", f"the checkpoint here was made with another {' and another '.join(other)}", path=path
        )
    return checkpoint
