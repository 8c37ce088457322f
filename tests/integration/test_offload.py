"""Decoding on a GPU as whole runs see it, on a machine that has none."""

from __future__ import annotations

import json
from pathlib import Path
from queue import SimpleQueue

import pytest
import real_archive

import mxbatch as front_door
from mxbatch.engine.bundle import Bundle
from mxbatch.engine.decode.contract import Limits
from mxbatch.engine.dispatch import worker
from mxbatch.engine.dispatch.job import Job
from mxbatch.engine.errors import EnvironmentFault
from mxbatch.engine.offload.worker import Share


@pytest.fixture
def archive(radiographs: Path, tmp_path: Path) -> Path:
    return real_archive.build(tmp_path / "archive", source=radiographs)


def test_without_a_gpu_the_host_decodes_and_the_record_says_so(
    archive: Path, small_bundle: Bundle, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    summary = front_door.score(archive, out, model=small_bundle.path, device="cpu", workers=1)
    written = json.loads((out / "runs" / summary.runs[0].run_id / "run.json").read_text())
    assert written["decode"] == {}
    assert "decode_gpu" not in written["seconds"]


def test_a_gpu_that_was_asked_for_and_is_not_there_ends_the_run_before_it_begins(
    archive: Path, small_bundle: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(EnvironmentFault, match="MX-M007"):
        front_door.score(archive, tmp_path / "out", model=small_bundle.path, device="cpu", decode="gpu")
    assert not (tmp_path / "out").exists()


def test_a_worker_refuses_a_job_whose_radiographs_it_would_decode_in_another_way(
    archive: Path, small_bundle: Bundle, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    summary = front_door.score(archive, out, model=small_bundle.path, device="cpu", workers=1)
    job = Job(
        run_id=summary.runs[0].run_id,
        archive=archive,
        out=str(out),
        bundle=small_bundle.path,
        device="cpu",
        runtime="eager",
        precision="float32",
        batch=4,
        engines=None,
        model_threads=1,
        decode_threads=1,
        limits=Limits(),
        offload={"jpeg": Share(share=0.5, engine="cuda", gpu_per_s=2.0, host_per_s=1.0)},
    )

    class Line:
        def say(self, message: object) -> None:
            raise AssertionError("it is not ready")

    with pytest.raises(EnvironmentFault, match="MX-M007"):
        worker._work(job, Line(), SimpleQueue())  # type: ignore[arg-type]
