"""How fast is each runtime, and how near to plain torch in float32? `python -m mxbatch.bench.runtimes --help`.

    speed   encoders alone, as `mxbatch score` runs them: one single-threaded process per worker, in turns
    parity  probabilities and calls of every runtime on a folder of radiographs, as JSON and as a table

A benchmark, not a test: it judges nothing. What cannot run here is listed with its reason.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mxbatch.bench.crew import Task, rate_of
from mxbatch.bench.machine import describe_machine
from mxbatch.bench.subject import open_bundle
from mxbatch.engine.bundle import Bundle, write_bundle
from mxbatch.engine.calls import call_columns
from mxbatch.engine.decode.contract import InputContract, Limits
from mxbatch.engine.errors import MxbatchError, UsageError
from mxbatch.engine.feed import Loader
from mxbatch.engine.models.hierarchical import build_model
from mxbatch.engine.models.recipe import Backbone, Recipe
from mxbatch.engine.plan import Radiograph
from mxbatch.engine.runtime.choose import Key
from mxbatch.engine.runtime.gate import probabilities
from mxbatch.engine.runtime.scorer import RUNTIMES, open_scorer
from mxbatch.engine.taxonomy import read_taxonomy

BASELINE = ("eager", "float32")


def contenders(device: str) -> tuple[list[Key], dict[str, str]]:
    """(runtime, precision) of all that can run on `device`, the baseline first; and why the rest cannot."""
    able, not_run = [], {}
    for runtime in RUNTIMES.values():
        if why := runtime.usable(device):
            not_run[runtime.name] = why
        else:
            able += [(runtime.name, precision) for precision in runtime.precisions(device)]
    return sorted(able, key=lambda key: key != BASELINE), not_run


def speeds(bundle: Bundle, *, workers: int, batch: int, rounds: int, amount: int) -> dict[str, Any]:
    """Radiographs/s of every runtime on the CPU, `rounds` times in turn, and as multiples of the baseline.

    Multiples are taken within a round: neighbours on a shared machine slow all of a round alike.
    """
    keys, not_run = contenders("cpu")
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        engines = Path(folder)
        for runtime, precision in list(keys):
            try:
                open_scorer(bundle, runtime=runtime, precision=precision, batch=batch, engines=engines)
            except MxbatchError as error:
                not_run[f"{runtime}-{precision}"] = error.what
                keys.remove((runtime, precision))
        for _ in range(rounds):
            for runtime, precision in keys:
                task = Task(
                    bundle=bundle.path,
                    root=bundle.path,
                    paths=(),
                    amount=amount,
                    batch=batch,
                    runtime=runtime,
                    precision=precision,
                    engines=engines,
                )
                rate = rate_of("model", task, workers)
                rates.setdefault(f"{runtime}-{precision}", []).append(round(rate, 2))
    base = rates["-".join(BASELINE)]
    return {
        "what": "encoders alone, one single-threaded process per worker; radiographs per second of all workers",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "bundle": {"id": bundle.model_id, "size": bundle.recipe.input.size},
        "workers": workers,
        "batch": batch,
        "rounds": rates,
        "radiographs_per_s": {name: statistics.median(values) for name, values in rates.items()},
        "times_eager_float32": {
            name: round(statistics.median(r / b for r, b in zip(values, base, strict=True)), 2)
            for name, values in rates.items()
        },
        "not_run": not_run,
    }


def parity(bundles: Sequence[Bundle], images: Path, *, device: str, batch: int) -> dict[str, Any]:
    """For every bundle, runtime and precision: how far its numbers are from the baseline's, over the files in `images`.

    Each file is a specimen of one radiograph in the model's first view.
    """
    keys, not_run = contenders(device)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for bundle in bundles:
            pictures = prepared(bundle, images)
            expected = None
            for runtime, precision in keys:
                row: dict[str, Any] = {"bundle": bundle.model_id, "runtime": runtime, "precision": precision}
                try:
                    scorer = open_scorer(
                        bundle,
                        runtime=runtime,
                        precision=precision,
                        device=device,
                        batch=batch,
                        engines=Path(folder),
                    )
                except MxbatchError as error:
                    rows.append({**row, "refused": error.what})
                    continue
                found = probabilities(scorer, pictures, np.ones(len(pictures), np.int64))
                expected = found if expected is None else expected
                rows.append({**row, **compare(bundle, expected, found)})
    return {
        "what": "largest difference in probability to eager float32, and calls that it changes",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "device": device,
        "batch": batch,
        "rows": rows,
        "not_run": not_run,
    }


def prepared(bundle: Bundle, images: Path) -> NDArray[np.uint8]:
    """`uint8[R, S, S]`: every file under `images`, as the bundle's model wants it.

    Raises RadiographError for one that cannot be decoded, UsageError MX-U001 where there is none.
    """
    loader = Loader(root=images, contract=bundle.recipe.input, limits=Limits())
    pictures = []
    for path in sorted(path for path in images.rglob("*") if path.is_file()):
        loaded = loader.load(Radiograph(path.relative_to(images).as_posix(), bundle.recipe.views[0], 0, 0))
        if loaded.error:
            raise loaded.error
        pictures.append(loaded.image)
    if not pictures:
        raise UsageError("MX-U001", "there is no file here", path=images, fix="name a folder of radiographs")
    return np.stack([picture for picture in pictures if picture is not None])


def compare(bundle: Bundle, expected: NDArray[np.float32], found: NDArray[np.float32]) -> dict[str, Any]:
    """Largest difference of any probability, and how many specimens get another call at any node."""
    before, after = (call_columns(p, bundle.thresholds, bundle.taxonomy) for p in (expected, found))
    names = ("call", "l2_calls", "l3_calls")
    changed = sum(any(before[name][row] != after[name][row] for name in names) for row in range(len(found)))
    return {
        "largest_difference": round(float(np.abs(found - expected).max()), 6),
        "calls_changed": changed,
        "specimens": len(found),
    }


def markdown(result: dict[str, Any]) -> str:
    """The table of docs/runtimes.md."""
    lines = [
        "| bundle | runtime | largest difference in probability | calls changed |",
        "| --- | --- | ---: | ---: |",
    ]
    for row in result["rows"]:
        name = f"| {row['bundle']} | {row['runtime']} {row['precision']} |"
        if "refused" in row:
            lines.append(f"{name} refused: {row['refused']} | |")
        else:
            changed = f"{row['calls_changed']} of {row['specimens']}"
            lines.append(f"{name} {row['largest_difference']:.2g} | {changed} |")
    lines += [f"| | {name} | not run: {why} | |" for name, why in result["not_run"].items()]
    return "\n".join(lines) + "\n"


def random_bundle(backbone: str, size: int, folder: Path) -> Bundle:
    """Random weights, and no calibration that spreads their calls: it would spread rounding errors as far."""
    recipe = Recipe(name=backbone, backbone=Backbone(name=backbone), input=InputContract(size=size))
    model = build_model(recipe, read_taxonomy(), seed=0)
    return write_bundle(
        folder / backbone, model, recipe=recipe, taxonomy=read_taxonomy(), learned_from="nothing"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for the result files, such as bench/results")
    commands = parser.add_subparsers(dest="command", required=True)
    speed = commands.add_parser("speed")
    speed.add_argument("--backbone", default="convnext_tiny", help="timm's name; weights are random")
    speed.add_argument("--size", type=int, default=224)
    speed.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    speed.add_argument("--batch", type=int, default=16)
    speed.add_argument("--rounds", type=int, default=5)
    speed.add_argument("--amount", type=int, default=64, help="radiographs per worker and round")
    near = commands.add_parser("parity")
    near.add_argument("images", type=Path, help="a folder of radiographs")
    named = "a bundle, or timm:NAME with random weights; repeatable"
    near.add_argument("--model", action="append", required=True, help=named)
    near.add_argument("--size", type=int, default=224, help="pixels a side of a timm: model")
    near.add_argument("--device", default="cpu")
    near.add_argument("--batch", type=int, default=16)
    asked = parser.parse_args()
    if asked.command == "parity":
        with tempfile.TemporaryDirectory() as folder:
            models = [open_bundle(model, asked.size, Path(folder)) for model in asked.model]
            result = parity(models, asked.images, device=asked.device, batch=asked.batch)
        print(markdown(result), end="")
        name = f"parity_{asked.device}"
    else:
        with tempfile.TemporaryDirectory() as folder:
            bundle = random_bundle(asked.backbone, asked.size, Path(folder))
            result = speeds(
                bundle, workers=asked.workers, batch=asked.batch, rounds=asked.rounds, amount=asked.amount
            )
        for contender, rate in result["radiographs_per_s"].items():
            times = result["times_eager_float32"][contender]
            print(f"{contender:22} {rate:8.1f} radiographs/s  {times:5.2f} x eager float32")
        for contender, why in result["not_run"].items():
            print(f"{contender:22} not run: {why}")
        name = f"{asked.backbone}_{asked.size}_runtimes_{platform.machine()}-{asked.workers}cores"
    if asked.out:
        path = asked.out / f"{name}_{result['at'][:10]}.json"
        path.write_text(json.dumps(result, indent=2) + "\n")
        print(path)


if __name__ == "__main__":
    try:
        main()
    except MxbatchError as error:
        sys.exit(f"mxbatch: {error}")
