"""`--runtime auto`: which runtime finishes so many radiographs first. Pure arithmetic, told in words.

What was measured on this machine counts. What was not is guessed, from ratios measured once on other machines and
the size of the model: good enough to see whether compiling could pay. A guess never decides alone:
what it favours is built and measured before the run relies on it (prepare.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Key = tuple[str, str]
"""Runtime and precision."""
WORTH_S = 10.0
"""What another has to save: for less, the reference's own numbers are the better bargain."""

GUESSES: dict[str, dict[Key, tuple[float, float]]] = {
    "cpu": {
        ("eager", "float32"): (1.0, 0),
        ("eager", "bfloat16"): (2.6, 0),
        ("onnxruntime", "float32"): (2.0, 10),
        ("inductor", "float32"): (2.1, 35),
        ("inductor", "bfloat16"): (4.6, 35),
    },
    "cuda": {
        ("eager", "float32"): (1.0, 0),
        ("eager", "float16"): (2.4, 0),
        ("eager", "bfloat16"): (2.5, 0),
        ("inductor", "float32"): (1.3, 90),
        ("inductor", "float16"): (3.4, 90),
        ("inductor", "bfloat16"): (3.5, 90),
        ("tensorrt", "float32"): (1.4, 180),
        ("tensorrt", "float16"): (3.9, 180),
        ("tensorrt", "bfloat16"): (4.0, 180),
        ("tensorrt-rtx", "float32"): (1.4, 40),
        ("tensorrt-rtx", "float16"): (3.7, 40),
        ("tensorrt-rtx", "bfloat16"): (3.8, 40),
    },
}
"""Kind of device -> runtime and precision, plain torch first -> times as fast as eager float32, seconds to build."""
GUESSED_RATE = {"cpu": 9.0, "cuda": 800.0}
"""Radiographs per second and worker of eager float32, for `GUESSED_MODEL`."""
GUESSED_MODEL = (114_000_000, 224)
"""ConvNeXt-tiny: bytes of its weights, side of its pictures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One way to score the run."""

    runtime: str
    precision: str
    rate: float
    """Radiographs per second of one worker."""
    measured: bool = False
    build_s: float = 0.0
    """Seconds of compiling that are still to be spent; 0 where it is done, or nothing has to be."""

    @property
    def key(self) -> Key:
        return self.runtime, self.precision

    @property
    def name(self) -> str:
        return f"{self.runtime}-{self.precision}"

    def seconds(self, radiographs: int, workers: int) -> float:
        return self.build_s + radiographs / (self.rate * workers)


def guessed_rate(device: str, weight_bytes: int, side: int) -> float:
    """Of eager float32: what a convolutional network costs goes with its weights and with the picture's area."""
    usual_bytes, usual_side = GUESSED_MODEL
    return GUESSED_RATE[device] * (usual_bytes / weight_bytes) * (usual_side / side) ** 2


def decide(candidates: Sequence[Candidate], radiographs: int, workers: int = 1) -> tuple[Candidate, str]:
    """The candidate that is done first, and why.

    The first of them is the reference: it is chosen unless another saves `WORTH_S` seconds.
    """
    reference, *others = candidates
    if not others:
        return reference, f"{reference.name}: no other runtime works here"
    best = min(others, key=lambda c: (c.seconds(radiographs, workers), c.name))
    saved = reference.seconds(radiographs, workers) - best.seconds(radiographs, workers)
    if saved >= WORTH_S:
        state = "still to be compiled" if best.build_s else "ready"
        return best, f"{best.name}: {_speed(best)} against {_speed(reference)} of {reference.name}, {state}"
    if best.build_s:
        count = "1 radiograph does" if radiographs == 1 else f"{radiographs} radiographs do"
        return reference, f"{reference.name}: {count} not pay for {best.build_s:.0f} s of compiling"
    return reference, f"{reference.name}: no other saves {WORTH_S:.0f} s on {radiographs} radiographs"


def _speed(candidate: Candidate) -> str:
    return f"{'measured' if candidate.measured else 'about'} {candidate.rate:.3g}/s"
