"""Before the workers start: choose the runtime, and have compiled what it needs. Imports no torch.

Building and measuring happen in a process of their own, one for all trials; where everything is known, none is
started and the answer takes milliseconds.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mxbatch.engine.bundle import Bundle
from mxbatch.engine.bundle_files import WEIGHTS
from mxbatch.engine.errors import EnvironmentFault, MxbatchError, UsageError
from mxbatch.engine.machine import choose_crew
from mxbatch.engine.runtime.cache import engines_folder, entry_path, require_own_folder
from mxbatch.engine.runtime.calibration import CALIBRATED
from mxbatch.engine.runtime.choose import GUESSES, Candidate, Key, decide, guessed_rate
from mxbatch.engine.runtime.compile import Order
from mxbatch.engine.runtime.encoder import EngineSpec, Note
from mxbatch.engine.runtime.gate import accepted, uncalibrated
from mxbatch.engine.runtime.golden import too_coarse
from mxbatch.engine.runtime.scorer import RUNTIMES, precision_of, runtime_named
from mxbatch.engine.runtime.speeds import FASTEST, Trial, recall, remember_failure

AUTO = "auto"
ENDLESS = 10**12
"""Radiographs for which any compiling pays."""
RUNTIME_FAULTS = ("MX-M003", "MX-M005", "MX-M006")
FAILURES = (*RUNTIME_FAULTS, "MX-E004", "MX-E005")
"""After these `auto` takes the next: the runtime's own faults, and a disk that has no room for its engine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What the user said, and what the run is."""

    runtime: str
    """A runtime's name, or `auto`."""
    precision: str | None
    device: str
    """`cpu` or `cuda:<n>`: the first worker's."""
    batch: int
    """Or `speeds.FASTEST`."""
    radiographs: int
    workers: int
    calibrate: Path | None = None
    """The archive to calibrate on, for a precision of `CALIBRATED`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """How the workers are to compute."""

    runtime: str
    precision: str
    batch: int
    device: str
    """Kind of it: cpu or cuda."""

    @property
    def name(self) -> str:
        return f"{self.runtime}-{self.precision}"


@contextmanager
def engine_cache(note: Note) -> Iterator[Path]:
    """The folder for this run's engines: the user's cache, or a private one that goes with the run.

    Raises EnvironmentFault MX-E012 where others can write to the cache.
    """
    folder = engines_folder()
    try:
        require_own_folder(folder)
    except EnvironmentFault as error:
        if error.code == "MX-E012":
            raise
        note(f"{error.what} ({folder}): what is compiled will not outlive this run")
        with tempfile.TemporaryDirectory(prefix="mxbatch-engines-") as private:
            yield Path(private)
        return
    yield folder


def require_possible(runtime: str, precision: str | None, device: str) -> None:
    """Refuse early what cannot be. Raises UsageError MX-U001, EnvironmentFault MX-M006."""
    entry = runtime_named("eager" if runtime == AUTO else runtime)
    if why := entry.usable(device):
        raise EnvironmentFault("MX-M006", f"{runtime}: {why}")
    if runtime == AUTO and precision in CALIBRATED:
        raise UsageError("MX-U001", f"{precision} is never chosen by itself", fix="name a --runtime for it")
    precision_of(entry, device, precision)


def prepare(bundle: Bundle, wish: Wish, engines: Path, note: Note) -> Prepared:
    """The runtime for these radiographs, built and checked where it has to be.

    What was asked for by name and fails raises EnvironmentFault (MX-M003, MX-M005, MX-M006); under `auto` it
    is announced, and the next best is taken.
    """
    with _Workshop(bundle, wish, engines, note) as workshop:
        if wish.runtime != AUTO:
            return workshop.named(wish.runtime)
        return workshop.fastest()


def compile_bundle(
    bundle: Bundle,
    *,
    runtime: str = AUTO,
    precision: str | None = None,
    device: str = "auto",
    batch: int | str | None = None,
    calibrate: Path | None = None,
    note: Note = lambda text: None,
) -> dict[str, Any]:
    """`mxbatch compile`: what `score` would do before a very long run. What came of it, as plain data.

    `calibrate` is an archive, for int8 and float8. Raises UsageError MX-U001; EnvironmentFault MX-M003, MX-M005 or
    MX-M006 where the runtime is of no use here, MX-E005 or MX-E012 where the engine cache is not.
    """
    crew = choose_crew(device, workers=1, batch=batch if isinstance(batch, int) else None)
    require_possible(runtime, precision, crew.devices[0])
    if calibrate is not None and precision not in CALIBRATED:
        raise UsageError("MX-U001", f"--calibrate is for --precision {' and '.join(CALIBRATED)}")
    engines = engines_folder()
    require_own_folder(engines)
    wish = Wish(
        runtime=runtime,
        precision=precision,
        device=crew.devices[0],
        batch=FASTEST if batch == AUTO else crew.batch,
        radiographs=ENDLESS,
        workers=1,
        calibrate=calibrate,
    )
    prepared = prepare(bundle, wish, engines, note)
    entry = runtime_named(prepared.runtime)
    spec = EngineSpec(device=wish.device, precision=prepared.precision, batch=prepared.batch)
    asked = replace(spec, batch=wish.batch)
    trial = recall(engines, bundle, entry, asked)
    built = (accepted(engines, bundle, entry, spec) or spec) if precision in CALIBRATED else spec
    return {
        "model_id": bundle.model_id,
        **asdict(prepared),
        "radiographs_per_s": trial.rate if trial else None,
        "build_s": trial.build_s if trial else None,
        "engine": str(entry_path(engines, bundle, entry, built)) if entry.build else None,
    }


def prepare_again(bundle: Bundle, before: Prepared, wish: Wish, engines: Path, note: Note) -> Prepared:
    """For a run that was begun: as `before`, so that the numbers of all its parts are of one kind.

    Where that is impossible now it is announced, and the choice is made anew.
    """
    try:
        if before.device != _kind(wish.device):
            raise UsageError("MX-U001", f"it computed on {before.device}")
        same = replace(wish, runtime=before.runtime, precision=before.precision, batch=before.batch)
        return prepare(bundle, same, engines, note)
    except (UsageError, EnvironmentFault) as error:
        note(f"{before.name}, with which the run began, is of no use now: {error.what}")
        return prepare(bundle, wish, engines, note)


def disown(bundle: Bundle, failed: Prepared, wish: Wish, engines: Path, error: EnvironmentFault) -> bool:
    """Whether the run may go on without the runtime that failed in the workers; it is remembered as useless.

    It may not where the user named it, and where it is the plain torch that the others have to beat.
    """
    last = (failed.runtime, failed.precision) == _reference(wish)
    if error.code not in RUNTIME_FAULTS or wish.runtime != AUTO or last:
        return False
    spec = EngineSpec(device=wish.device, precision=failed.precision, batch=wish.batch)
    remember_failure(engines, bundle, RUNTIMES[failed.runtime], spec, error)
    return True


def known_rate(bundle: Bundle, prepared: Prepared, wish: Wish, engines: Path) -> float:
    """Radiographs per second of one worker, as measured on this machine; 0 where nobody has measured."""
    spec = EngineSpec(device=wish.device, precision=prepared.precision, batch=wish.batch)
    trial = recall(engines, bundle, RUNTIMES[prepared.runtime], spec)
    return trial.rate if trial else 0.0


class _Workshop:
    """Knows what is known of every runtime, and tries what is not."""

    def __init__(self, bundle: Bundle, wish: Wish, engines: Path, note: Note) -> None:
        self._bundle, self._wish, self._engines, self._note = bundle, wish, engines, note
        self._kind = _kind(wish.device)
        self._trials: dict[Key, Trial] = {}
        self._stack = ExitStack()
        self._bench: _Bench | None = None

    def __enter__(self) -> _Workshop:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def named(self, runtime: str) -> Prepared:
        """What was asked for by name."""
        key = (runtime, precision_of(runtime_named(runtime), self._wish.device, self._wish.precision))
        trial = self._known(key)
        if self._needs_nothing(key):
            return self._as_is(key)
        if key[1] in CALIBRATED and self._wish.calibrate is None:
            spec = self._spec(key[1], trial.batch if trial else self._wish.batch)
            if accepted(self._engines, self._bundle, RUNTIMES[runtime], spec) is None:
                raise uncalibrated(self._bundle, RUNTIMES[runtime], spec)
        if self._wish.calibrate or trial is None or trial.failed or not self._is_built(trial):
            trial = self._try(key)
        return self._from(trial)

    def fastest(self) -> Prepared:
        """What finishes first, of all that works: chosen by guesses, tried, and chosen again by what was measured."""
        reference = _reference(self._wish)
        out: set[Key] = set()
        while True:
            candidates = [candidate for candidate in self._candidates() if candidate.key not in out]
            best, reason = decide(candidates, self._wish.radiographs, self._wish.workers)
            trial = self._known(best.key)
            if best.key == reference and self._needs_nothing(reference):
                self._note(f"runtime {reason}")
                return self._as_is(reference)
            if self._wish.precision is None and (why := too_coarse(self._bundle, best.precision)):
                self._note(f"{best.precision} is left out: {why}")
                out |= {candidate.key for candidate in candidates if candidate.precision == best.precision}
            elif why := RUNTIMES[best.runtime].usable(self._wish.device):
                self._note(f"{best.name} would be faster, but {why}")
                out |= {candidate.key for candidate in candidates if candidate.runtime == best.runtime}
            elif trial and trial.failed:
                again = f"`mxbatch compile --runtime {best.runtime}` tries it again"
                self._note(f"{best.name} is left out: {trial.failed}; {again}")
                out.add(best.key)
            elif trial and (best.key in self._trials or self._is_built(trial)):
                self._note(f"runtime {reason}")
                return self._from(trial)
            else:
                self._note(f"trying {reason}")
                try:
                    self._try(best.key)
                    if self._known(reference) is None:
                        self._try(reference)
                except EnvironmentFault as error:
                    if error.code not in FAILURES or best.key == reference:
                        raise
                    self._note(f"{best.name} cannot be used: {error.what}")
                    out.add(best.key)

    def _candidates(self) -> list[Candidate]:
        """Every runtime and precision that the user's words allow, the reference first."""
        wish = self._wish
        weights = (self._bundle.path / WEIGHTS).stat().st_size
        reference = self._known(("eager", "float32"))
        base = reference.rate if reference else 0.0
        base = base or guessed_rate(self._kind, weights, self._bundle.recipe.input.size)
        possible = (
            (key, guess)
            for key, guess in GUESSES[self._kind].items()
            if key[1] in RUNTIMES[key[0]].precisions(wish.device) and wish.precision in (None, key[1])
        )
        return [self._candidate(key, base * times, build_s) for key, (times, build_s) in possible]

    def _candidate(self, key: Key, guess: float, build_s: float) -> Candidate:
        trial = self._known(key)
        measured = trial.rate if trial else 0.0
        return Candidate(
            runtime=key[0],
            precision=key[1],
            rate=measured or guess,
            measured=bool(measured),
            build_s=0 if trial and self._is_built(trial) else build_s,
        )

    def _needs_nothing(self, key: Key) -> bool:
        """Neither building nor a search for the batch."""
        return RUNTIMES[key[0]].build is None and self._wish.batch != FASTEST

    def _as_is(self, key: Key) -> Prepared:
        trial = self._known(key)
        batch = trial.batch if trial else self._wish.batch
        return Prepared(runtime=key[0], precision=key[1], batch=batch, device=self._kind)

    def _from(self, trial: Trial) -> Prepared:
        return Prepared(
            runtime=trial.runtime, precision=trial.precision, batch=trial.batch, device=self._kind
        )

    def _known(self, key: Key) -> Trial | None:
        spec = self._spec(key[1], self._wish.batch)
        return self._trials.get(key) or recall(self._engines, self._bundle, RUNTIMES[key[0]], spec)

    def _is_built(self, trial: Trial) -> bool:
        runtime, spec = RUNTIMES[trial.runtime], self._spec(trial.precision, trial.batch)
        if spec.precision in CALIBRATED:
            return accepted(self._engines, self._bundle, runtime, spec) is not None
        return runtime.build is None or entry_path(self._engines, self._bundle, runtime, spec).is_dir()

    def _spec(self, precision: str, batch: int) -> EngineSpec:
        return EngineSpec(device=self._wish.device, precision=precision, batch=batch)

    def _try(self, key: Key) -> Trial:
        if self._bench is None:
            self._bench = self._stack.enter_context(_Bench())
        spec = self._spec(key[1], self._wish.batch)
        order = Order(
            bundle=self._bundle.path,
            runtime=key[0],
            spec=spec,
            engines=self._engines,
            calibrate=self._wish.calibrate,
        )
        self._trials[key] = trial = self._bench.try_engine(order, self._note)
        return trial


def _reference(wish: Wish) -> Key:
    return "eager", wish.precision or "float32"


def _kind(device: str) -> str:
    return device.partition(":")[0]


class _Bench:
    """The process in which engines are built and timed."""

    def __enter__(self) -> _Bench:
        self._words = tempfile.TemporaryFile()
        self._connection: Connection[Any, Any]
        self._connection, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mxbatch.engine.runtime.compile", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._words,
                stderr=self._words,
            )
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()
        self._process.kill()
        self._process.wait()
        self._words.close()

    def try_engine(self, order: Order, note: Note) -> Trial:
        """Raises what it raises there; EnvironmentFault MX-M006 where the process dies."""
        try:
            self._connection.send(order)
            while True:
                answer = self._connection.recv()
                if isinstance(answer, Trial):
                    return answer
                if isinstance(answer, MxbatchError):
                    raise answer
                note(str(answer))
        except (EOFError, OSError):
            code = self._process.wait()
            what = (
                f"{order.runtime}: the process that compiled it died (exit status {code}){self._last_words()}"
            )
            raise EnvironmentFault("MX-M006", what) from None

    def _last_words(self) -> str:
        self._words.seek(0)
        lines = self._words.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""
