"""A signal is written down while workers score, and means what it always means before and after."""

from __future__ import annotations

import signal
from threading import Thread

import pytest

from mxbatch.engine.dispatch.stop import SIGNALS, Stop


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_written_down_and_interrupts_nothing(number: signal.Signals) -> None:
    stop = Stop()
    with stop.listening():
        signal.raise_signal(number)
        assert stop.asked == number.name


def test_ctrl_c_a_second_time_does_not_wait() -> None:
    stop = Stop()
    with stop.listening():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # a service manager that repeats itself is no person
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_afterwards_signals_are_the_callers_again() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(RuntimeError), Stop().listening():
        raise RuntimeError
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_outside_the_main_thread_nothing_is_changed() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    seen = []

    def listen() -> None:
        with Stop().listening():
            seen.extend(signal.getsignal(number) for number in SIGNALS)

    thread = Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == before
