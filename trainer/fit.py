"""Training: phases of epochs of steps, in plain torch.

    phase      pre-training without labels, or one stage of the recipe; has its own optimiser and schedule
    epoch      ends with validation, a row of metrics.csv, curves.png and a checkpoint
    step       draws on a random state that follows from (seed, phase, epoch, step, process) and nothing else

So a training that was killed goes on from its last checkpoint and ends with the weights of an undisturbed one,
bit for bit, and the same seed on the same machine gives the same weights. On a GPU torch is asked for its
deterministic algorithms, and the few operations that have none are the exception to that promise.

Under `torchrun` each process takes its part of every step; the loss is divided by what counts in all of them,
so it is the loss of one process that looks at everything. The first process writes.
"""

# N specimens · T radiographs per specimen · P parts of a phase's loss

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mxbatch.engine.errors import EnvironmentFault, UsageError
from mxbatch.engine.memory import keep_freed_memory
from mxbatch.engine.models.hierarchical import HierarchicalModel, build_model
from mxbatch.engine.models.recipe import Recipe
from mxbatch.engine.taxonomy import Taxonomy
from mxbatch.trainer.checkpoint import Checkpoint, identity_of, read_checkpoint, write_checkpoint
from mxbatch.trainer.curves import write_curves
from mxbatch.trainer.data import Dataset
from mxbatch.trainer.ema import follow, shadow
from mxbatch.trainer.history import Row, write_history
from mxbatch.trainer.initial_weights import begin_at_full_size, load_initial_weights, with_named_weights
from mxbatch.trainer.loader import ahead, threads_for
from mxbatch.trainer.precision import precision_on
from mxbatch.trainer.pretrain import Pretraining, radiographs_of
from mxbatch.trainer.progress import Display, silent
from mxbatch.trainer.schedule import rate_at, set_rate
from mxbatch.trainer.splits import Split
from mxbatch.trainer.supervised import Supervised
from mxbatch.trainer.team import Team, gathered, is_first
from mxbatch.trainer.training import Training, training_of

NORMALISED_ON = 512
"""About so many radiographs say what mean and spread the model expects."""


class Phase(Protocol):
    """A part of training with one aim. Its epochs all have the same number of steps."""

    name: str
    epochs: int
    learning_rate: float
    unit: str
    """What a step looks at: specimens or radiographs."""
    parts: tuple[str, ...]
    """What the P parts of its loss are called in metrics.csv."""

    def objective(self, model: HierarchicalModel) -> nn.Module:
        """A module around `model` that maps a loaded step to (sums, counts), `float32[P]` each.

        Also decides what of the model learns, so it is asked for once, when the phase begins.
        """
        ...

    def optimiser(self, model: HierarchicalModel) -> torch.optim.Optimizer:
        """Over what learns; every group says its `share` of the learning rate."""
        ...

    def steps(self, rng: np.random.Generator) -> Sequence[NDArray[np.int64]]:
        """What each step of an epoch looks at."""
        ...

    def load(self, chosen: NDArray[np.int64], rng: np.random.Generator) -> tuple[Tensor, ...]:
        """The tensors of one step, on the CPU."""
        ...

    def validate(self, model: HierarchicalModel, precision: torch.dtype) -> dict[str, float]:
        """More columns of the epoch's row, from data that is not learned from."""
        ...


def fit(
    recipe: Recipe,
    dataset: Dataset,
    split: Split,
    taxonomy: Taxonomy,
    run: Path,
    *,
    device: str = "auto",
    resume: bool = True,
    display: Display = silent,
) -> HierarchicalModel:
    """Train `recipe` on `split.train`; the running mean of its weights, on the CPU, in evaluation mode.

    `run` is the folder of metrics.csv, curves.png and the checkpoint. With `resume`, training goes on from
    the checkpoint there; without, it begins anew. `device` is auto, cpu, cuda or cuda:N. `display` is told of it, in
    each of the processes that has one.

    Raises UsageError MX-U007 (the recipe), MX-U001 (the device), MX-T002 (a stage has no specimen to learn from),
    MX-T005 (the checkpoint is another training's);
    EnvironmentFault MX-T004 (the loss is no number), MX-E004 or MX-E005 (the folder cannot be written),
    MX-E009 (the checkpoint is damaged).
    """
    training = training_of(recipe)
    keep_freed_memory()
    with gathered(device) as team, _repeatable(team.device):
        phases: list[Phase] = []
        if training.pretrain and training.pretrain.epochs:
            phases.append(Pretraining(training=training, dataset=dataset, split=split))
        phases += [
            Supervised(
                stage, recipe=recipe, training=training, taxonomy=taxonomy, dataset=dataset, split=split
            )
            for stage in training.stages
        ]
        identity = identity_of(
            recipe=with_named_weights(recipe).as_dict(),
            taxonomy=taxonomy.as_dict(),
            dataset=dataset.fingerprint,
            split=[part.tolist() for part in (split.train, split.validation)],
        )
        state = read_checkpoint(run, identity) if resume else None
        model = _begin(recipe, taxonomy, training, dataset, split)
        trainer = _Fit(model.to(team.device), phases, training, identity, run, team, display)
        if state:
            trainer.take_up(state)
        with display.training(recipe.name, *trainer.extent()):
            trainer.run_all()
        return trainer.mean.cpu().to(memory_format=torch.contiguous_format)


class _Fit:
    """A training under way: where it stands, and what it needs to go on."""

    def __init__(
        self,
        model: HierarchicalModel,
        phases: Sequence[Phase],
        training: Training,
        identity: dict[str, str],
        run: Path,
        team: Team,
        display: Display,
    ) -> None:
        self.model, self.phases, self.training = model, phases, training
        self.identity, self.run, self.team = identity, run, team
        self.display = display
        self.precision = precision_on(team.device, training.precision)
        self.mean = shadow(model)
        self.phase, self.epoch = 0, 0
        self.optimiser_state: dict[str, Any] | None = None
        self.history: list[Row] = []
        self.steps = [len(phase.steps(np.random.default_rng(0))) for phase in phases]

    def take_up(self, state: Checkpoint) -> None:
        """Stand where `state` stood."""
        self.model.load_state_dict(state.model)
        self.mean.load_state_dict(state.mean)
        self.phase, self.epoch = state.phase, state.epoch
        self.optimiser_state, self.history = state.optimiser, state.history
        if self.phase < len(self.phases):
            self.display.note(f"going on after epoch {self.epoch} of {self.phases[self.phase].name}")

    def extent(self) -> tuple[int, int]:
        """Steps in all, and steps done."""
        each = (phase.epochs * steps for phase, steps in zip(self.phases, self.steps, strict=True))
        return sum(each), self._steps_before()

    def run_all(self) -> None:
        while self.phase < len(self.phases):
            self._run_phase(self.phases[self.phase])
            self.phase, self.epoch, self.optimiser_state = self.phase + 1, 0, None

    def _run_phase(self, phase: Phase) -> None:
        objective = self.team.together(phase.objective(self.model).to(self.team.device))
        optimiser = phase.optimiser(self.model)
        if self.optimiser_state:
            optimiser.load_state_dict(self.optimiser_state)
        while self.epoch < phase.epochs:
            row = self._run_epoch(phase, objective, optimiser)
            self.epoch += 1
            if not is_first():
                continue
            row |= phase.validate(self.mean, self.precision)
            self.history.append(row)
            write_checkpoint(
                self.run,
                Checkpoint(
                    identity=self.identity,
                    phase=self.phase,
                    epoch=self.epoch,
                    model=self.model.state_dict(),
                    mean=self.mean.state_dict(),
                    optimiser=optimiser.state_dict(),
                    history=self.history,
                ),
            )
            write_history(self.run, self.history)
            write_curves(self.run, self.history)
            self.display.epoch(row)

    def _run_epoch(self, phase: Phase, objective: nn.Module, optimiser: torch.optim.Optimizer) -> Row:
        """All steps of one epoch; what they cost, and how fast they went."""
        started = time.monotonic()
        steps = phase.steps(self._rng())
        rank, size = self.team.rank, self.team.size
        if min(map(len, steps)) < size:
            raise UsageError("MX-U001", f"{phase.name}: {size} processes are more than a step has to look at")

        def load(number: int) -> tuple[Tensor, ...]:
            return phase.load(steps[number][rank::size], self._rng(number, rank))

        learning = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        totals_2P = torch.zeros(2, len(phase.parts), device=self.team.device)
        rate = 0.0
        for number, tensors in enumerate(ahead(load, len(steps), threads=threads_for(self.team.device))):
            step = self.epoch * len(steps) + number
            rate = rate_at(
                step, phase.epochs * len(steps), highest=phase.learning_rate, warmup=self.training.warmup
            )
            set_rate(optimiser, rate)
            torch.manual_seed(int(self._rng(number, rank).integers(2**62)))  # dropout
            sums_P, counts_P = self._forward(objective, tensors)
            counted_P = self.team.total(counts_P)
            loss = (sums_P / counted_P.clamp(min=1)).sum() * size  # gradients are averaged over processes
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(learning, self.training.clip_norm)
            self._require_finite(loss + norm, phase, number)
            with self._autocast():
                optimiser.step()
            optimiser.zero_grad()
            follow(self.mean, self.model, step=self._steps_before() + number, decay=self.training.ema_decay)
            totals_2P += torch.stack([self.team.total(sums_P), counted_P])
            self.display.step(phase.name, self.epoch + 1, phase.epochs, loss.item() / size)
        means = (totals_2P[0] / totals_2P[1].clamp(min=1)).tolist()
        seconds = time.monotonic() - started
        return {
            "stage": phase.name,
            "epoch": self.epoch + 1,
            "learning_rate": rate,
            "loss": sum(means),
            **dict(zip(phase.parts, means, strict=True)),
            "seconds": seconds,
            f"{phase.unit}_per_s": sum(map(len, steps)) / seconds,
        }

    def _forward(self, objective: nn.Module, tensors: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        moved = (tensor.to(self.team.device, non_blocking=True) for tensor in tensors)
        with self._autocast():
            sums_P, counts_P = objective(*moved)
        return sums_P, counts_P

    def _autocast(self) -> torch.autocast:
        """Products of matrices in the training's precision; Muon's, too: half the time, and no direction is lost."""
        lower = self.precision != torch.float32
        return torch.autocast(self.team.device.type, self.precision, enabled=lower)

    def _require_finite(self, number: Tensor, phase: Phase, step: int) -> None:
        if not math.isfinite(number.item()):
            raise EnvironmentFault(
                "MX-T004",
                f"{phase.name}, epoch {self.epoch + 1}, step {step + 1}: the loss is no number",
                path=self.run,
            )

    def _steps_before(self) -> int:
        """Steps of all epochs that are done."""
        done = sum(n * phase.epochs for n, phase in zip(self.steps, self.phases[: self.phase], strict=False))
        return done + (self.epoch * self.steps[self.phase] if self.phase < len(self.steps) else 0)

    def _rng(self, *where: int) -> np.random.Generator:
        """The random numbers of this epoch, or of the step and process `where`; no two are the same."""
        return np.random.default_rng([self.training.seed, self.phase, self.epoch, *where])


def _begin(
    recipe: Recipe, taxonomy: Taxonomy, training: Training, dataset: Dataset, split: Split
) -> HierarchicalModel:
    """The model before its first step: seeded, its normalisation that of the data, its weights from a file if named."""
    model = build_model(recipe, taxonomy, seed=training.seed)
    if training.initial == "kaiming":
        begin_at_full_size(model.encoder, training.seed)
    if training.weights:
        load_initial_weights(model, Path(training.weights))
    rows = radiographs_of(dataset, split.train)
    pictures_R1SS = torch.from_numpy(dataset.images[rows[:: max(1, len(rows) // NORMALISED_ON)]])[:, None]
    sample = model.encoder.grey(pictures_R1SS)
    model.encoder.mean.fill_(float(sample.mean()))
    model.encoder.std.fill_(max(float(sample.std()), 1e-3))
    model.encoder.to(memory_format=torch.channels_last)
    return model


@contextmanager
def _repeatable(device: torch.device) -> Iterator[None]:
    """Torch's random state is lent and given back; on a GPU, algorithms that give the same bits every time."""
    cuda = device.type == "cuda"
    if cuda:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before the first product of matrices
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    with torch.random.fork_rng(devices=[device] if cuda else []):
        if cuda:
            torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
