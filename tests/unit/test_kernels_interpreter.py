"""The kernels without a GPU: run by Triton's interpreter, and compiled for GPUs that are not here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]
pytest.importorskip("triton", reason="there is no Triton for this system")


def test_every_kernel_agrees_with_its_twin_under_the_interpreter() -> None:
    """In a process of its own: Triton asks whether to interpret when it is imported."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(TESTS / "kernel_parity.py")],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout


def kernels() -> dict[str, tuple[Any, dict[str, str], dict[str, object]]]:
    """Every kernel with the types of its arguments and its constants, as on a real model."""
    from mxbatch.kernels import calls_triton, dwnorm_triton, prepare_triton

    sides = dict.fromkeys(("high", "wide", "source_high", "source_wide"), "i32")
    filtered = {"table_BC": "*i64", "source": "*fp32", "result": "*fp32", **sides}
    window = {"table_BC": "*i64", "shares_B4": "*fp64", "grey_BSS": "*fp32", "images_BSS": "*u8"}
    window |= {"blank_B": "*i1", "normalised_BSS": "*bf16", "size": "i32", "mean": "fp32", "std": "fp32"}
    tree = dict.fromkeys(("logits_NK", "scale_K", "bias_K", "normal_below_K", "abnormal_from_K"), "*fp32")
    tree |= {"path_DK": "*i32", "p_NK": "*fp32", "packed_NW": "*i32"}
    tree |= dict.fromkeys(("specimens", "nodes", "depth", "words"), "i32")
    block = {"x_BHWC": "*bf16", "weight_TC": "*bf16", "y_BHWC": "*bf16", "eps": "fp32"}
    block |= dict.fromkeys(("bias_C", "gain_C", "shift_C"), "*fp32")
    block |= dict.fromkeys(("height", "width", "channels"), "i32")
    tile = {"ROWS": 4, "WIDTH": 128}
    return {
        "means": (
            prepare_triton._means,
            {"table_BC": "*i64", "blocks": "*fp32", "high": "i32", "wide": "i32"},
            {"BLOCKS": 64, "SIDE": 16},
        ),
        "across": (prepare_triton._filter, filtered, {"HORIZONTAL": True, **tile}),
        "down": (prepare_triton._filter, filtered, {"HORIZONTAL": False, **tile}),
        "window": (
            prepare_triton._window,
            window,
            {"NORMALISED": True, "NO_CONTRAST": 1e-5, "PIXELS": 1024},
        ),
        "calls": (
            calls_triton._calls,
            tree,
            {"CONDITIONAL": True, "SPECIMENS": 64, "PER_WORD": 16, "UNSCORED": 3},
        ),
        "dwnorm": (dwnorm_triton._dwnorm, block, {"SIDE": 7, "ACROSS": 8, "LANES": 128}),
    }


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing")
@pytest.mark.parametrize("name", ["means", "across", "down", "window", "calls", "dwnorm"])
def test_every_kernel_compiles_for_a_gpu_that_is_not_here(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interpreter is more forgiving than the compiler: of types that differ between branches, for one."""
    from triton import compile
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    function, types, constants = kernels()[name]
    signature = {argument: types.get(argument, "constexpr") for argument in function.arg_names}
    source = ASTSource(function, signature, constexprs=constants)
    compiled = compile(source, target=GPUTarget("cuda", 90, 32))
    assert compiled.asm["cubin"]
