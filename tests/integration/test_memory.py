"""Memory does not grow with the archive: ten times the radiographs, the same peak.

What a run keeps of the archive is its index, a few kB per radiograph; pixels come and go.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import real_archive

from mxbatch.engine.bundle import Bundle

PEAKS = r"""
import json, re, resource, sys
from mxbatch.engine.score import score
summary = score(sys.argv[1], sys.argv[2], model=sys.argv[3], workers=1)
status = open("/proc/self/status").read()  # getrusage would count the process that this one was forked from
print(json.dumps({
    "run_mb": int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024,
    "worker_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    "radiographs": summary.runs[0].counts["radiographs_used"],
}))
"""


def peaks(archive: Path, out: Path, bundle: Bundle) -> dict[str, float]:
    command = [sys.executable, "-c", PEAKS, str(archive), str(out), str(bundle.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    print(done.stdout)
    return dict(json.loads(done.stdout))


@pytest.mark.slow
def test_4000_radiographs_peak_within_a_tenth_of_400(
    radiographs: Path, small_bundle: Bundle, tmp_path: Path
) -> None:
    few = peaks(real_archive.build(tmp_path / "few", 400, radiographs), tmp_path / "a", small_bundle)
    many = peaks(real_archive.build(tmp_path / "many", 4000, radiographs), tmp_path / "b", small_bundle)
    assert (few["radiographs"], many["radiographs"]) == (400, 4000)
    assert many["worker_mb"] <= 1.1 * few["worker_mb"]
    assert many["run_mb"] + many["worker_mb"] <= 1.1 * (few["run_mb"] + few["worker_mb"])
