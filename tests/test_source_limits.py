"""Bounds around code that is not ours: time, memory, modules; and everything put back afterwards."""

from __future__ import annotations

import resource
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from torch import nn

from lora_probe.deadline import DeadlinePassed, run_within
from lora_probe.errors import BuildTooLarge
from lora_probe.source.limits import bounded

if TYPE_CHECKING:
    from collections.abc import Callable


def test_what_stays_within_bounds_is_left_alone() -> None:
    """A small build ends normally, and its own exceptions pass through."""
    with bounded("Small", modules=2):
        nn.Sequential(nn.Identity(), nn.Identity())
    with pytest.raises(KeyError), bounded("Small"):
        raise KeyError("own")


def test_too_many_modules_are_stopped() -> None:
    """The module after the last allowed one is not registered."""
    with (
        pytest.raises(BuildTooLarge, match="building Big takes more than 10 modules"),
        bounded("Big", modules=10),
    ):
        nn.ModuleList([nn.Identity() for _ in range(11)])


def test_other_threads_build_in_peace() -> None:
    """Only the thread that entered the bounds is counted."""
    done: list[int] = []

    def work() -> None:
        done.append(len(nn.ModuleList([nn.Identity() for _ in range(20)])))

    with bounded("Small", modules=1):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert done == [20]


def _loop() -> None:
    while True:
        pass


def _shrug() -> None:
    with suppress(BaseException):
        time.sleep(5)
    while True:
        with suppress(Exception):
            time.sleep(5)


@pytest.mark.parametrize("work", [_loop, _shrug])
def test_what_does_not_end_is_interrupted(work: Callable[[], None]) -> None:
    """Neither code that registers nothing nor code that swallows exceptions outlasts the clock."""
    began = time.monotonic()
    with pytest.raises(BuildTooLarge, match=r"more than 0\.1 s"), bounded("Slow", seconds=0.1):
        work()
    assert time.monotonic() - began < 5


def test_an_alarm_that_was_swallowed_still_counts() -> None:
    """A build that ends normally although its time was over is refused."""
    with pytest.raises(BuildTooLarge), bounded("Stubborn", seconds=0.05), suppress(BaseException):
        time.sleep(5)


def test_a_thread_is_stopped_when_it_registers_a_module() -> None:
    """Signals reach only the main thread: elsewhere the clock is read at each module."""
    caught: list[BaseException] = []

    def work() -> None:
        try:
            with bounded("Slow", seconds=0.05):
                time.sleep(0.1)
                nn.Sequential(nn.Identity())
        except BuildTooLarge as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [str(error) for error in caught] == [
        "building Slow takes more than 0.05 s: check the sizes in its config"
    ]


def test_memory_is_bounded() -> None:
    """A list of a billion entries is refused by the system instead of filling the machine."""
    with pytest.raises(BuildTooLarge, match="more than 64 MiB of memory"), bounded("Wide", memory=2**26):
        [0] * 10**9
    assert len([0] * 10**7) == 10**7


def test_a_lower_limit_of_the_process_is_kept() -> None:
    """Where the process may take less already, the bound does not raise that."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with bounded("Small", memory=2**62):
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] <= 2**63 - 1
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_a_timer_that_was_running_goes_on() -> None:
    """A test runner's own alarm still comes, with the time that has passed taken off."""
    rung: list[int] = []
    handler = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with bounded("Small", seconds=10):
            time.sleep(0.05)
        left = signal.getitimer(signal.ITIMER_REAL)[0]
        assert 0 < left < 0.16
        time.sleep(0.3)
        assert rung == [1]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


def _fail() -> int:
    raise SystemExit(3)


@pytest.mark.parametrize(("call", "error"), [(lambda: time.sleep(5), DeadlinePassed), (_fail, SystemExit)])
def test_a_call_within_a_time_raises(call: Callable[[], object], error: type[BaseException]) -> None:
    """What is late is given up; what the call itself raises comes through."""
    with pytest.raises(error):
        run_within(0.05, call)


def test_a_call_within_its_time_returns() -> None:
    """The result is handed over, None included."""
    assert run_within(5, lambda: 7) == 7
    assert run_within(5, lambda: None) is None
