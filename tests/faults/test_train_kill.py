"""A training that is killed at any moment and started again ends with the weights of one that nobody disturbed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import toy_training


def start(run: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, toy_training.__file__, run, out])


def finish(run: Path, out: Path) -> dict[str, torch.Tensor]:
    assert start(run, out).wait(timeout=180) == 0
    weights: dict[str, torch.Tensor] = torch.load(out, weights_only=True)
    return weights


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return finish(folder / "run", folder / "weights.pt")


def test_killed_in_the_middle_of_epochs_it_ends_with_the_same_weights(
    undisturbed: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    run, out = tmp_path / "run", tmp_path / "weights.pt"
    seed = int(os.environ.get("MXBATCH_SEED", time.time_ns() % 10**6))
    chance = random.Random(seed)
    print(f"MXBATCH_SEED={seed}")
    for epochs in (1, 4):  # in pre-training, and in a stage
        process = start(run, out)
        while process.poll() is None and epochs_done(run) < epochs:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not out.exists(), "the training was over before it could be killed"
    weights = finish(run, out)
    assert weights.keys() == undisturbed.keys()
    assert all(torch.equal(weights[name], undisturbed[name]) for name in weights), f"seed {seed}"
    assert sorted(path.name for path in run.iterdir() if not path.name.startswith(".")) == [
        "checkpoint.pt",
        "curves.png",
        "metrics.csv",
    ]


def epochs_done(run: Path) -> int:
    try:
        return len((run / "metrics.csv").read_text().splitlines()) - 1
    except FileNotFoundError:
        return 0
