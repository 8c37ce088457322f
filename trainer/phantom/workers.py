"""Draws an archive with several processes, and is what each of them runs.

The workers are fresh interpreters (`python -m mxbatch.trainer.phantom.workers FD`), as the engine's are: forking
copies the threads of whoever calls badly, and multiprocessing's other ways want a `__main__` guard in his script.
Worker k of n draws the animals k, k + n, ... and sends their rows; the files it writes itself. As every animal has
its own random numbers, who draws it does not matter. A worker whose run is gone ends at its next word to it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO, Any

from mxbatch.engine.errors import EnvironmentFault, MxbatchError, from_os_error
from mxbatch.trainer.phantom.animal import Drawn, Orders, animals_of, draw_animal

_LAST_WORDS = 300


def draw_in_workers(root: Path, orders: Orders, count: int, progress: Callable[[int], None]) -> list[Drawn]:
    """Draw all animals of `orders` below `root` with `count` processes; their rows in the animals' order.

    Raises what a worker raised, or EnvironmentFault (MX-E006) when one died. No worker is left behind.
    """
    drawn: dict[int, Drawn] = {}
    with ExitStack() as stack:
        words = stack.enter_context(tempfile.TemporaryFile())
        crew: dict[Any, subprocess.Popen[bytes]] = dict(
            _start(stack, words, (root, orders, number, count)) for number in range(count)
        )
        while crew:
            connection: Any
            for connection in wait(list(crew)):
                try:
                    message = connection.recv()
                except (EOFError, OSError):
                    if crew.pop(connection).wait():
                        raise EnvironmentFault("MX-E006", f"a worker died: {_last_words(words)}") from None
                    continue
                if isinstance(message, MxbatchError):
                    raise message
                drawn[message.number] = message
                progress(len(message.images))
    return [drawn[number] for number in sorted(drawn)]


def _start(
    stack: ExitStack, words: IO[bytes], job: object
) -> tuple[Connection[Any, Any], subprocess.Popen[bytes]]:
    ours, theirs = Pipe()
    stack.enter_context(ours)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
    stack.callback(_end, process)
    with suppress(OSError):  # it is dead already: the next receive says so
        ours.send(job)
    return ours, process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _last_words(words: IO[bytes]) -> str:
    words.seek(0)
    return words.read().decode("utf-8", "replace").strip()[-_LAST_WORDS:] or "it said nothing"


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the run ends its workers
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    root, orders, number, count = connection.recv()
    try:
        for animal in animals_of(orders)[number::count]:
            connection.send(draw_animal(root, orders, animal))
    except ConnectionError:
        return  # nobody is waiting any more
    except OSError as error:
        connection.send(from_os_error(error, root))
    except MxbatchError as error:
        connection.send(error)


if __name__ == "__main__":
    main()
