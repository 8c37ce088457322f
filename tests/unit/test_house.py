"""Rules of the house: what may import what, what the front door shows, how big a file may grow."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import mxbatch

ROOT = Path(__file__).parents[2]
ORDER = ("kernels", "engine", "trainer", "bench")
LAYERS = {layer: set(ORDER[:n]) for n, layer in enumerate(ORDER)}
FILES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def imported(source: str) -> set[str]:
    """Full names of what `source` imports of mxbatch, at the top or inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "mxbatch":  # a folder, or a name at the door
            names.update(f"mxbatch.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return {name for name in names if name.split(".")[0] == "mxbatch"}


def out_of_bounds(source: str, layer: str) -> set[str]:
    """Imports that a file of `layer` may not have."""
    allowed = {layer, *LAYERS[layer], "__version__", *mxbatch.__all__}
    return {name for name in imported(source) if name != "mxbatch" and name.split(".")[1] not in allowed}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_upwards_only(path: Path) -> None:
    assert not out_of_bounds(path.read_text(encoding="utf-8"), path.relative_to(ROOT).parts[0])


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import mxbatch.bench.machine", {"mxbatch.bench.machine"}),
        ("from mxbatch.trainer.fit import fit", {"mxbatch.trainer.fit"}),
        ("from mxbatch import bench", {"mxbatch.bench"}),
        ("from mxbatch import engine, trainer as t", {"mxbatch.trainer"}),
        ("def late():\n    from mxbatch import bench", {"mxbatch.bench"}),
        ("import mxbatch", set()),
        ("from mxbatch import __version__, read_calls", set()),
        ("from mxbatch import kernels\nfrom mxbatch.engine.errors import CODES", set()),
    ],
)
def test_an_import_downwards_is_found_however_it_is_written(source: str, found: set[str]) -> None:
    assert out_of_bounds(source, "engine") == found


@pytest.mark.parametrize("path", [*FILES, *TESTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_past_400_lines_wants_to_be_two(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_kernels_is_no_package_of_its_own() -> None:
    """With an `__init__.py` it would hide the installed `kernels` that other libraries import."""
    assert not (ROOT / "kernels" / "__init__.py").exists()


def test_the_door_is_sorted_complete_and_opens() -> None:
    assert mxbatch.__all__ == sorted(mxbatch.__all__)
    for name in mxbatch.__all__:
        value = getattr(mxbatch, name)
        assert not isinstance(value, ModuleType)
        assert value.__doc__, f"{name} has no docstring"


def test_an_unknown_name_at_the_door_is_answered_with_the_known_ones() -> None:
    with pytest.raises(AttributeError, match="read_calls"):
        mxbatch.read_call  # noqa: B018


@pytest.mark.parametrize(
    "module", ["mxbatch", "mxbatch.__main__", "mxbatch.engine.score", "mxbatch.engine.about"]
)
def test_what_answers_at_once_imports_nothing_heavy(module: str) -> None:
    heavy = "{'torch', 'timm', 'ray', 'pydicom', 'imagecodecs', 'tifffile', 'pandas', 'tensorrt'}"
    code = f"import sys, {module}; print(*sorted({heavy} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == []
