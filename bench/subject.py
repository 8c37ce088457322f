"""Which model is measured, and how it is computed: what `auto` leaves open is settled before the clock runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mxbatch.bench.result import Subject
from mxbatch.engine.bundle import Bundle
from mxbatch.engine.machine import choose_crew
from mxbatch.engine.model_store import REFERENCE, resolve_model
from mxbatch.engine.runtime.encoder import Note
from mxbatch.engine.runtime.prepare import AUTO, compile_bundle, require_possible
from mxbatch.engine.runtime.scorer import open_scorer, precision_of, runtime_named

TIMM = "timm:"
"""`timm:convnext_tiny` is that architecture with random weights: speed does not depend on what was learned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options that all benchmarks of a model share."""

    model: str = REFERENCE
    size: int = 224
    """S of a `timm:` model; a bundle brings its own."""
    runtime: str = AUTO
    precision: str | None = None
    device: str = "auto"
    workers: int | None = None
    batch: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A bundle, and how it is computed on this machine."""

    bundle: Bundle
    runtime: str
    precision: str
    device: str
    """`cpu` or `cuda:0`."""
    batch: int
    workers: int

    @property
    def subject(self) -> Subject:
        """For the result file."""
        recipe = self.bundle.recipe
        return Subject(
            model=self.bundle.model_id,
            architecture=recipe.backbone.name,
            size=recipe.input.size,
            precision=self.precision,
            runtime=self.runtime,
            batch=self.batch,
            workers=self.workers,
        )


def open_bundle(model: str, size: int, folder: Path) -> Bundle:
    """The bundle that `model` names; a `timm:` one is made in `folder`. Raises what `resolve_model` raises."""
    if not model.startswith(TIMM):
        return resolve_model(model)
    from mxbatch.bench.runtimes import random_bundle

    return random_bundle(model.removeprefix(TIMM), size, folder)


def settle(asked: Asked, folder: Path, note: Note = lambda text: None) -> Chosen:
    """What was asked for, compiled and checked, `auto` settled as a very long run would settle it.

    Raises UsageError or EnvironmentFault where it cannot be had.
    """
    bundle = open_bundle(asked.model, asked.size, folder)
    crew = choose_crew(asked.device, asked.workers, asked.batch)
    device = crew.devices[0]
    require_possible(asked.runtime, asked.precision, device)
    if asked.runtime == AUTO:
        made = compile_bundle(
            bundle, precision=asked.precision, device=asked.device, batch=asked.batch, note=note
        )
        runtime, precision, batch = made["runtime"], made["precision"], made["batch"]
    else:
        runtime = asked.runtime
        precision = precision_of(runtime_named(runtime), device, asked.precision)
        batch = open_scorer(
            bundle, runtime=runtime, precision=precision, device=device, batch=crew.batch, note=note
        ).batch
    return Chosen(
        bundle=bundle,
        runtime=runtime,
        precision=precision,
        device=device,
        batch=batch,
        workers=len(crew.devices),
    )
