"""Run other people's model classes within bounds of time, memory and modules.

A config class may expand one number into a list of a billion entries, or a model class into a million
modules; neither can be foreseen from the config alone. Everything set here is put back afterwards.
"""

from __future__ import annotations

import gc
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from lora_probe.deadline import DeadlinePassed, alarm
from lora_probe.errors import BuildTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MAX_BYTES", "MAX_MODULES", "MAX_SECONDS", "bounded"]

MAX_SECONDS = 20.0
"""Wall-clock time of a build; the largest published models take about one second."""
MAX_BYTES = 2**30
"""Memory that a build may add; a module without weights takes about 3 KB."""
MAX_MODULES = 150_000
"""Modules of one model; 384 unfused experts in each of 61 layers (Kimi-K2's own code) take 94,000."""


@contextmanager
def bounded(
    what: str, *, seconds: float = MAX_SECONDS, memory: int = MAX_BYTES, modules: int = MAX_MODULES
) -> Iterator[None]:
    """Run the block, which builds `what`, within the bounds.

    Memory (bytes) is bounded where the platform counts it (RLIMIT_DATA on Linux). Outside of the main thread,
    time is checked whenever a module is registered.

    Raises:
        BuildTooLarge: a bound was passed; says which.

    """
    watch = _Watch(seconds=seconds, modules=modules)
    try:
        with ExitStack() as guards:
            guards.enter_context(_memory(memory))
            guards.enter_context(_registrations(watch))
            guards.enter_context(alarm(seconds, watch.on_alarm))
            yield
    except DeadlinePassed:
        problem = watch.passed
    except MemoryError:
        problem = f"more than {memory / 2**20:,.0f} MiB of memory for names and shapes alone"
    else:
        problem = watch.passed  # set when the code under guard swallowed the alarm
    if problem is not None:
        gc.collect()  # modules refer to each other; what was half built goes now
        raise BuildTooLarge(what=what, problem=problem)


class _Watch:
    """Counts modules and time of one guarded block."""

    def __init__(self, *, seconds: float, modules: int) -> None:
        self.seconds = seconds
        self.deadline = time.monotonic() + seconds
        self.modules = modules
        self.thread = threading.get_ident()
        self.seen = 0
        self.passed: str | None = None

    def stop(self, problem: str) -> None:
        self.passed = problem
        raise DeadlinePassed

    def on_alarm(self) -> None:
        self.stop(f"more than {self.seconds:g} s")

    def on_module(self, _parent: Any, _name: str, _module: Any) -> None:
        if threading.get_ident() != self.thread:
            return
        self.seen += 1
        if self.seen > self.modules:
            self.stop(f"more than {self.modules:,} modules")
        if time.monotonic() > self.deadline:
            self.on_alarm()


@contextmanager
def _registrations(watch: _Watch) -> Iterator[None]:
    from torch.nn.modules.module import register_module_module_registration_hook

    handle = register_module_module_registration_hook(watch.on_module)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _memory(allowance: int) -> Iterator[None]:
    """Let the process take at most `allowance` bytes more than it has."""
    used = _data_bytes()
    if used is None:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    known = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([used + allowance, *known]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_bytes() -> int | None:
    """Return what RLIMIT_DATA counts for this process, None where the system does not say."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:  # noqa: PTH123
            line = next(line for line in status if line.startswith("VmData:"))
    except (OSError, StopIteration):
        return None
    return int(line.split()[1]) * 1024
