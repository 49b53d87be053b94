"""Give up after a while, whatever the code that runs is waiting for."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

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
def alarm(seconds: float, on_alarm: Callable[[], None]) -> Iterator[bool]:
    """Call `on_alarm`, which may raise, inside the block once it has run for `seconds`; again until it ends.

    Signals reach the main thread only: elsewhere (and on Windows) nothing is called, and the block receives
    False. A timer that was already running goes on afterwards.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield False
        return

    def handle(_signal: int, _frame: FrameType | None) -> None:
        on_alarm()

    handler = signal.signal(signal.SIGALRM, handle)
    began = time.monotonic()
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, _NAG_SECONDS)
    try:
        yield True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - began), 0.001), interval)


def run_within(seconds: float, call: Callable[[], _Result]) -> _Result:
    """Return what `call` returns, or raise what it raises, unless that takes longer than `seconds`.

    Where no alarm can interrupt it, `call` runs in a thread of its own, which is left behind when it is late.

    Raises:
        DeadlinePassed: it took longer.

    """

    def stop() -> None:
        raise DeadlinePassed

    with alarm(seconds, stop) as armed:
        if armed:
            return call()
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.extend((call(), None))
        except BaseException as error:  # noqa: BLE001 -- raised again by the thread that waits
            outcome[:] = (None, error)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(seconds)
    if worker.is_alive():
        raise DeadlinePassed
    result, error = outcome
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return] # what `call` returned
