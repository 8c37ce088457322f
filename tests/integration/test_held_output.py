"""Two runs on one output: the second hears so before it looks at the archive, a model, a cluster or a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mxbatch.engine import score as score_module
from mxbatch.engine.errors import EnvironmentFault, OutputLocked
from mxbatch.engine.ledger import Output
from mxbatch.engine.score import score

COSTLY = ("open_fleet", "require_possible", "check_root", "resolve_model", "open_archive", "read_history")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output of an earlier run."""
    (tmp_path / "out" / "runs").mkdir(parents=True)
    return tmp_path / "out"


@pytest.fixture
def touched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What of `COSTLY` is asked for; the first to be asked ends the run."""
    names: list[str] = []

    def refuse(name: str) -> Any:
        def called(*_: object, **__: object) -> None:
            names.append(name)
            raise EnvironmentFault("MX-E001", "as far as this")

        return called

    for name in COSTLY:
        monkeypatch.setattr(score_module, name, refuse(name))
    return names


@pytest.mark.parametrize("ray", [None, "local", "10.0.0.1:6379"])
def test_a_held_output_is_refused_before_anything_else(
    out: Path, tmp_path: Path, touched: list[str], ray: str | None
) -> None:
    with Output(out).lock(), pytest.raises(OutputLocked, match=f"held by process {os.getpid()}"):
        score(tmp_path / "archive", out, **({"ray": ray} if ray else {}))
    assert touched == []


def test_where_nobody_holds_it_the_run_goes_on_and_lets_go_at_its_end(
    out: Path, tmp_path: Path, touched: list[str]
) -> None:
    with pytest.raises(EnvironmentFault, match="as far as this"):
        score(tmp_path / "archive", out)
    assert touched == ["open_fleet"]
    with Output(out).lock():
        pass


def test_looking_at_what_would_be_done_needs_no_lock(out: Path, tmp_path: Path, touched: list[str]) -> None:
    with Output(out).lock(), pytest.raises(EnvironmentFault, match="as far as this"):
        score(tmp_path / "archive", out, dry_run=True)
    assert touched == ["open_fleet"]


def test_to_be_refused_takes_no_library_that_computes(out: Path, tmp_path: Path) -> None:
    code = f"""
import sys
from mxbatch.__main__ import main
try:
    sys.exit(main(["score", {str(tmp_path)!r}, "--out", {str(out)!r}, "--ray", "local"]))
finally:
    print([name for name in ("torch", "ray", "timm", "scipy", "pandas") if name in sys.modules])
"""
    with Output(out).lock():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (4, "[]\n")
    assert "MX-L001" in done.stderr
