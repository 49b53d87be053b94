"""The protocol as a pure state machine: what to train next, from all that was measured so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lora_probe.piloting.records import Plan, Result, Unit

__all__ = ["next_units"]


def next_units(plan: Plan, results: Iterable[Result]) -> tuple[Unit, ...]:
    """Return all work that can be done now, empty when the pilot is complete.

    It depends on the set of results alone: neither on their order nor on how often one is there. So a pilot
    that was interrupted goes on where its log ends, and processes that share a log agree on what is left.

    - The base is the trial `Trial(candidate=<its name>, learning_rate=0.0, seed=<first seed>)` in a unit from
      step 0 to step 0.
    - A unit with `start == stop` trains nothing and evaluates its `splits` only.
    - A unit's work is done for a trial when an `Evaluated` at `stop` is there for each of `splits`, or a
      `Failed`. Trials go on from `start`, so their state there must be kept.
    - Units are independent of each other and may be split by trials; all that a unit's trials share is
      `start`, `stop` and `splits`.
    """
    raise NotImplementedError
