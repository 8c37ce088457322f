"""The driver dies, or its disk is full, at every single step: given again, the command ends with the same rows.

The steps are not a list that could forget one: crash_driver.py takes every change under the output for a step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mxbatch.engine.bundle import Bundle

DRIVER = Path(__file__).with_name("crash_driver.py")
DRIVERS = min(4, len(os.sched_getaffinity(0)))
QUARANTINED = 1
CRASHED = 77


def reports(archive: Path, bundle: Bundle, scratch: Path, kind: str, seed: int = 0) -> list[dict[str, Any]]:
    """What the drivers say of their runs; an undisturbed one first."""
    helpers = os.pathsep.join([str(DRIVER.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": helpers}
    drivers = []
    for part in range(DRIVERS):
        (own := scratch / f"driver-{part}").mkdir()
        words = [sys.executable, DRIVER, archive, bundle.path, own, kind, seed, part, DRIVERS]
        environment["XDG_CACHE_HOME"] = str(own / "cache")
        with (own / "said").open("w") as said, (own / "complaints").open("w") as complaints:
            command = [str(word) for word in words]
            drivers.append(subprocess.Popen(command, env=environment, stdout=said, stderr=complaints))
    codes = [driver.wait(timeout=900) for driver in drivers]
    assert codes == [0] * DRIVERS, [path.read_text() for path in sorted(scratch.glob("*/complaints"))]
    said = [(scratch / f"driver-{part}" / "said").read_text().splitlines() for part in range(DRIVERS)]
    undisturbed, *others = [json.loads(lines[0]) for lines in said]
    assert all(other["rows"] == undisturbed["rows"] for other in others)
    return [undisturbed, *(json.loads(line) for lines in said for line in lines[1:])]


def test_a_crash_at_any_step_loses_nothing_and_doubles_nothing(
    small_archive: Path, small_bundle: Bundle, tmp_path: Path
) -> None:
    undisturbed, *crashed = reports(small_archive, small_bundle, tmp_path, "every")
    steps = [report["first"]["words"][0] for report in crashed]
    for kind in ("plan.parquet", "run.json", "calls/", "quarantine/", "report.html"):
        assert any(step.startswith("os.rename") and kind in step for step in steps), kind
    for report, step in zip(crashed, steps, strict=True):
        assert report["first"]["code"] == CRASHED, step
        assert report["second"]["code"] in (0, QUARANTINED), (step, report["second"]["words"])
        assert report["rows"] == undisturbed["rows"], step


def test_a_disk_that_is_full_at_any_step_ends_the_run_with_3_or_does_not_matter(
    small_archive: Path, small_bundle: Bundle, tmp_path: Path
) -> None:
    undisturbed, *filled = reports(small_archive, small_bundle, tmp_path, "full")
    refused = [report for report in filled if report["first"]["code"] == 3]
    steps = [report["first"]["words"][0] for report in refused]
    for kind in ("plan.parquet", "run.json", "calls/", "quarantine/"):
        assert any(kind in step for step in steps), kind
    for report in filled:
        step, *words = report["first"]["words"]
        assert report["first"]["code"] in (3, QUARANTINED), (step, words)
        assert report["first"]["code"] == QUARANTINED or words[-1].startswith("MX-E004"), (step, words)
        assert report["rows"] == undisturbed["rows"], step


def test_a_hundred_runs_that_crash_at_random_end_with_one_and_the_same_table(
    small_archive: Path, small_bundle: Bundle, tmp_path: Path
) -> None:
    """Half of their sessions begin with the clock set back by decades."""
    seed = int(os.environ.get("MXBATCH_SEED", time.time_ns() % 10**6))
    undisturbed, *runs = reports(small_archive, small_bundle, tmp_path, "random", seed)
    assert len(runs) == 100
    assert sum(report["crashes"] for report in runs) > 50
    for number, report in enumerate(runs):
        assert report["second"]["code"] in (0, QUARANTINED), f"seed {seed}, run {number}: {report}"
        assert report["rows"] == undisturbed["rows"], f"seed {seed}, run {number}"
