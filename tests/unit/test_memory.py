"""The allocator keeps what a step frees (engine/memory.py)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mxbatch.engine.memory import keep_freed_memory

FAULTS = """
import resource, sys
import numpy as np
from mxbatch.engine.memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
for n in range(50):
    block = np.empty(8_000_000); block.fill(n); del block
    if n == 4:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="another allocator")
def test_large_blocks_are_not_fetched_from_the_system_again() -> None:
    def faults(how: str) -> int:
        return int(subprocess.check_output([sys.executable, "-c", FAULTS, how], text=True))

    if not keep_freed_memory():
        pytest.skip("the C library is not glibc")
    assert faults("kept") * 10 < faults("as it is")
