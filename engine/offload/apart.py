"""The trial in a process of its own: `python -m mxbatch.engine.offload.apart FD`, with a Connection at FD.

So the run's own process imports no torch, and a driver that dies takes nothing with it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from mxbatch.engine.offload.trial import Order, Tried, try_offload

TRIAL_S = 180.0

Note = Callable[[str], None]


def try_apart(order: Order, note: Note) -> Mapping[str, Tried]:
    """`try_offload` in a process of its own; nothing is known where it dies, which is told."""
    ours: Connection[Any, Any]
    ours, theirs = Pipe()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mxbatch.engine.offload.apart", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    try:
        ours.send(order)
        while ours.poll(TRIAL_S):
            answer = ours.recv()
            if isinstance(answer, dict):
                return answer
            note(str(answer))
        note(f"the trial of decoding on the GPU did not end within {TRIAL_S:.0f} s")
    except (EOFError, OSError):
        note(f"the trial of decoding on the GPU died (exit status {process.wait()})")
    finally:
        ours.close()
        process.kill()
        process.wait()
    return {}


def main() -> None:
    """One order: text is a remark, the table of what was tried the answer."""
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    order: Order = connection.recv()
    connection.send(try_offload(order, connection.send))


if __name__ == "__main__":
    main()
