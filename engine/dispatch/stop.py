"""How a run is asked to stop: Ctrl-C, SIGTERM (systemd, Kubernetes, Slurm's end of time), SIGUSR1 (Slurm's warning).

While workers score, a signal is only written down, so that nothing is torn in the middle of its bookkeeping; the run
(pool.py) sees it within half a second and lets the workers finish what they have begun. Ctrl-C a second time, from
somebody who will not wait, ends the run where it stands: that is safe, too.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Stop:
    """Whether somebody has asked the run to stop. One for each call of `score`."""

    def __init__(self) -> None:
        self.asked: str = ""
        """The signal's name, or another reason; empty while nobody has asked."""

    def ask(self, why: str) -> None:
        """From any thread."""
        self.asked = self.asked or why

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals over. Python delivers them to the main thread only; elsewhere nothing is changed."""
        if current_thread() is not main_thread():
            yield
            return
        before = {number: signal.signal(number, self._hear) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = signal.Signals(number).name
