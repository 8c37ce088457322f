"""mxbatch and its peers on the same files with the same weights, in turn: `mxbatch bench peers FOLDER`.

Every contestant is a fresh process, twice per round: once over a few radiographs and once over many. The difference is
its rate, (many - few) / (seconds of many - seconds of few), and what is left of the short run is its start-up. That
treats all alike, whatever each of them does before its first picture. A contestant that did not answer for every
radiograph is not in the table of rates, but in the list of those that were not run, with its last words.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mxbatch.bench.data import FOLDER, describe, lay_out
from mxbatch.bench.machine import describe_machine
from mxbatch.bench.peers.attempt import Attempt, attempt
from mxbatch.bench.peers.faults import fault_table
from mxbatch.bench.peers.order import Order
from mxbatch.bench.peers.table import PEERS, peers_named
from mxbatch.bench.result import Figure, Result, Table, rates
from mxbatch.bench.score import settings_of
from mxbatch.bench.subject import Chosen
from mxbatch.engine.machine import choose_crew

OURS, OURS_ON_RAY = "mxbatch", "mxbatch on Ray"


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What is run."""

    radiographs: int = 320
    rounds: int = 3
    names: tuple[str, ...] = ()
    """Of the peers; empty for all."""
    precisions: tuple[str, ...] = ("float32",)
    """In which peers compute that can choose."""
    faults: bool = False
    limit_s: float = 900.0

    @property
    def few(self) -> int:
        """Of the short run: a quarter of the long one at most."""
        return max(1, min(16, self.radiographs // 4))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A name, and the command that scores an archive into a new folder."""

    name: str
    command: Callable[[Path, Path], list[str]]


def race(
    sources: Sequence[Path], chosen: Chosen, course: Course, note: Callable[[str], None] = lambda text: None
) -> Result:
    """Rates and start-up of all that can run here, and with `course.faults` what each does with two bad files."""
    data = describe(sources, course.radiographs)
    runners, not_run = contestants(chosen, course, data["formats"])
    tables = {}
    with tempfile.TemporaryDirectory(prefix="mxbatch-bench-") as folder:
        home = Path(folder)
        tried, failed = _in_turn(sources, runners, course, home, note)
        if course.faults:
            sound = [runner for runner in runners if runner.name in tried]
            tables["two bad files"] = fault_table(sources, sound, home, course.limit_s, note)
    speeds = {name: [steady(course, *pair) for pair in pairs] for name, pairs in tried.items()}
    packages = [package.partition("[")[0] for peer in PEERS for package in peer.packages]
    return Result(
        kind="peers",
        what="the same files and weights by other means; a rate is that of the radiographs after the first few",
        subject=chosen.subject,
        figures=_figures(speeds, tried, course),
        tables={"radiographs/s": _standings(speeds, tried, course), **tables},
        data=data,
        not_run={**not_run, **failed},
        machine=describe_machine(packages),
    )


Runs = dict[str, list[tuple[Attempt, Attempt]]]
"""Contestant -> a short and a long run per round."""


def _in_turn(
    sources: Sequence[Path],
    runners: Sequence[Contestant],
    course: Course,
    home: Path,
    note: Callable[[str], None],
) -> tuple[Runs, dict[str, str]]:
    """Every contestant in every round, and why some have no rate: these are left out from then on."""
    few, many = (lay_out(sources, home / f"{count}", count) for count in (course.few, course.radiographs))
    tried: Runs = {}
    failed: dict[str, str] = {}
    for number in range(course.rounds):
        for runner in [runner for runner in runners if runner.name not in failed]:
            note(f"round {number + 1} of {course.rounds}: {runner.name}")
            short, long = (
                _run(runner, archive, home / f"{number}-{runner.name}-{archive.name}", course)
                for archive in (few, many)
            )
            if why := complaint((short, long), course):
                failed[runner.name] = why
                tried.pop(runner.name, None)
            else:
                tried.setdefault(runner.name, []).append((short, long))
    return tried, failed


def contestants(
    chosen: Chosen, course: Course, formats: Sequence[str]
) -> tuple[list[Contestant], dict[str, str]]:
    """mxbatch first, then every peer in every precision that it can; and why the others cannot.

    Where Ray Data runs, mxbatch runs on Ray, too: what the one costs is then told from what Ray costs.
    """
    device = chosen.device.partition(":")[0]
    ready, not_run = [Contestant(name=OURS, command=lambda archive, out: _ours(chosen, archive, out))], {}
    for peer in peers_named(course.names):
        for precision in course.precisions:
            name = f"{peer.name} {precision}"
            if why := peer.why_not(device, formats, precision):
                not_run[name] = why
            else:
                ready.append(_contestant(name, peer.name, precision, device, chosen))
    if any(runner.name.startswith("ray_data ") for runner in ready):
        on_ray = Contestant(
            name=OURS_ON_RAY, command=lambda archive, out: [*_ours(chosen, archive, out), "--ray", "local"]
        )
        ready.insert(1, on_ray)
    return ready, not_run


def _contestant(name: str, module: str, precision: str, device: str, chosen: Chosen) -> Contestant:
    def command(archive: Path, out: Path) -> list[str]:
        order = Order(
            radiographs=str(archive / FOLDER),
            out=str(out),
            bundle=str(chosen.bundle.path),
            size=chosen.bundle.recipe.input.size,
            device=device,
            precision=precision,
            batch=chosen.batch,
            cores=len(choose_crew("cpu").devices),
        )
        return [sys.executable, "-P", "-m", "mxbatch.bench.peers.run", module, order.as_json()]

    return Contestant(name=name, command=command)


def _ours(chosen: Chosen, archive: Path, out: Path) -> list[str]:
    options = [word for key, value in settings_of(chosen).items() for word in (f"--{key}", str(value))]
    score = ["score", str(archive), "--out", str(out), "--model", str(chosen.bundle.path)]
    return [sys.executable, "-P", "-m", "mxbatch", *score, *options]


def _run(runner: Contestant, archive: Path, out: Path, course: Course) -> Attempt:
    return attempt(runner.command(archive, out), out, limit_s=course.limit_s)


def complaint(pair: Sequence[Attempt], course: Course) -> str | None:
    """Why this pair of runs, over few and over many, gives no rate; None where it does."""
    for each, wanted in zip(pair, (course.few, course.radiographs), strict=True):
        if each.code is None:
            return f"it did not end within {course.limit_s:g} s"
        if not each.finished:
            return f"it failed (exit status {each.code}): {each.last_words}"
        if each.rows != wanted:
            return f"it answered for {each.rows} of {wanted} radiographs"
    if pair[1].seconds <= pair[0].seconds:
        return "too few radiographs to tell its rate from its start-up: raise --radiographs"
    return None


def steady(course: Course, few: Attempt, many: Attempt) -> float:
    """Radiographs per second once it runs."""
    return (course.radiographs - course.few) / (many.seconds - few.seconds)


def startup_s(course: Course, few: Attempt, many: Attempt) -> float:
    """Of the short run, what its radiographs do not account for."""
    return max(0.0, few.seconds - course.few / steady(course, few, many))


def _figures(speeds: dict[str, list[float]], tried: Runs, course: Course) -> dict[str, Figure]:
    start = {
        f"{name}, start-up": Figure(unit="s", rounds=tuple(startup_s(course, *pair) for pair in pairs))
        for name, pairs in tried.items()
    }
    return {**{name: rates(values) for name, values in speeds.items()}, **start}


def _standings(speeds: dict[str, list[float]], tried: Runs, course: Course) -> Table:
    """A row per contestant, the fastest first; ratios are taken within each round, and then their median."""
    ours = speeds.get(OURS)
    rows = [
        (
            name,
            round(statistics.median(values), 2),
            round(statistics.median(a / b for a, b in zip(ours, values, strict=True)), 2) if ours else None,
            round(statistics.median(startup_s(course, *pair) for pair in tried[name]), 1),
        )
        for name, values in speeds.items()
    ]
    rows.sort(key=lambda row: -row[1])
    columns = ("by", "radiographs/s", "mxbatch is times as fast", "s to start")
    return Table(columns=columns, rows=tuple(rows))
