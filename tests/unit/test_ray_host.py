"""A Ray actor only starts a worker process and passes on its words: what it imports first, every worker waits for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
from pathlib import Path
from mxbatch import __version__
from mxbatch.engine.decode.contract import Limits
from mxbatch.engine.dispatch import ray_actors
from mxbatch.engine.dispatch.job import Job

began = []


class Process:
    def __init__(self, model_threads):
        print([name for name in ("numpy", "pyarrow", "torch", "scipy") if name in sys.modules])

    def begin(self, job, log):
        began.append(job.bundle)
        log.write_bytes(b"words")


ray_actors.WorkerProcess = Process
out, bundle = Path(sys.argv[1]), Path(sys.argv[2])
job = Job(run_id="00001-x", archive=out, out=str(out), bundle=bundle, device="cpu", runtime="eager",
          precision="float32", batch=16, engines=None, model_threads=1, decode_threads=1, limits=Limits())
ray_actors.Host(job, "runs/00001-x/workers.log", [None], __version__)
assert began == [bundle]
"""


def test_a_host_starts_its_process_before_anything_is_imported_that_computes(tmp_path: Path) -> None:
    (tmp_path / "runs" / "00001-x").mkdir(parents=True)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "SHA256SUMS").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", CODE, tmp_path, tmp_path / "bundle"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    assert (tmp_path / "runs" / "00001-x" / "workers.log").read_bytes() == b"words"
