"""Give up after a while, whatever the code that runs is waiting for."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

__all__ = ["DeadlinePassed", "alarm", "run_within"]

_NAG_SECONDS = 0.5
"""Pause between repeated alarms, should the code under watch swallow the first."""
_Result = TypeVar("_Result")


class DeadlinePassed(BaseException):
    """Ends the code under watch: a base exception, so that no ``except Exception`` in it goes on instead."""


@contextmanager
def alarm(seconds: float, on_alarm: Callable[[], None]) -> Iterator[None]:
    """Call `on_alarm`, which may raise, inside the block once it has run for `seconds`; again until it ends.

    Signals reach the main thread only: elsewhere (and on Windows) nothing is called. A timer that
    was already running goes on afterwards.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def handle(_signal: int, _frame: FrameType | None) -> None:
        on_alarm()

    handler = signal.signal(signal.SIGALRM, handle)
    began = time.monotonic()
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, _NAG_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - began), 0.001), interval)


def run_within(seconds: float, call: Callable[[], _Result]) -> _Result:
    """Return what `call` returns, or raise what it raises, unless that takes longer than `seconds`.

    It runs in a thread of its own, which is left behind when it is late: no alarm would interrupt the
    look-up of a host name.

    Raises:
        DeadlinePassed: it took longer.

    """
    outcome: list[Callable[[], _Result]] = []

    def work() -> None:
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 -- raised again by the thread that waits
            outcome.append(partial(_raise, error))
        else:
            outcome.append(lambda: result)

    worker = threading.Thread(target=work, name="lora-probe-request", daemon=True)
    worker.start()
    worker.join(seconds)
    if not outcome:
        raise DeadlinePassed
    return outcome[0]()


def _raise(error: BaseException) -> NoReturn:
    raise error
