"""Which learning rates an arm is tried at, and which of them is its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_probe.piloting.records import Arm, Failure, Trial
from lora_probe.piloting.statistics.paired import paired_difference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lora_probe.piloting.ledger import Ledger
    from lora_probe.piloting.records import Candidate, Plan

__all__ = ["Search", "planned_rates", "rates_kept", "resolution", "search"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """The learning rates of one arm, as far as they are known."""

    rates: tuple[float, ...]
    """All that are tried, rising."""
    missing: tuple[float, ...]
    """Those that must be measured before anything is decided."""
    alive: tuple[float, ...]
    """Those that were measured and did not fail, best first."""
    out: tuple[float, ...]
    """Those that failed, rising."""


def planned_rates(plan: Plan, candidate: Candidate) -> tuple[float, ...]:
    """Return the grid of an arm before any extension, rising."""
    protocol = plan.protocol
    centre = protocol.full_learning_rate if candidate.arm is Arm.FULL else protocol.learning_rate
    return tuple(sorted({centre * factor for factor in protocol.grid}))


def search(plan: Plan, ledger: Ledger, candidate: Candidate, *, step: int) -> Search:
    """Return how the learning rates of an arm stand at the first step at which they are compared.

    The grid grows by its own ratio, as often as the protocol allows, while the best rate is on its edge and
    better than its neighbour by more than their noise band and half the margin: the curve bends, so beyond a
    flatter edge lies less than that. Where every rate diverged it grows downwards. A rate is out when a trial
    at it diverged with any seed, or ended otherwise with the seed of the search; a failed neighbour counts as
    a worse one.
    """
    rates = planned_rates(plan, candidate)
    for _ in range(plan.protocol.extensions + 1):
        out = tuple(rate for rate in rates if _is_out(plan, ledger, candidate, rate))
        losses = {
            rate: each
            for rate in rates
            if rate not in out and (each := ledger.evaluated(_trial(plan, candidate, rate), step))
        }
        missing = tuple(rate for rate in rates if rate not in out and rate not in losses)
        alive = tuple(sorted(losses, key=lambda rate: losses[rate].loss))
        found = Search(rates=rates, missing=missing, alive=alive, out=out)
        beyond = None if missing else _beyond(found, plan, ledger, candidate, step)
        if beyond is None:
            break
        rates = tuple(sorted((*rates, beyond)))
    return found


def rates_kept(alive: Sequence[float], *, last: bool) -> tuple[float, ...]:
    """Return which rates go on after a rung, best first: the better half, after the last rung one."""
    return tuple(alive[: 1 if last else math.ceil(len(alive) / 2)])


def resolution(
    plan: Plan, ledger: Ledger, candidate: Candidate, found: Search, chosen: float, *, steps: Sequence[int]
) -> tuple[bool, str]:
    """Return whether `chosen` is known to be near the optimum, and why; `steps` are those of the rungs."""
    rates = found.rates
    if len(rates) == 1:
        return False, "only one learning rate was tried"
    place = rates.index(chosen)
    if 0 < place < len(rates) - 1:
        failed = {rates[place - 1], rates[place + 1]} & set(found.out)
        return (
            True,
            f"the optimum lies inside the grid, next to {'a failed rate' if failed else 'worse ones'}",
        )
    seen = (
        _is_flat_edge(plan, ledger, candidate, chosen, rates=rates, step=step) for step in reversed(steps)
    )
    flat = next((each for each in seen if each is not None), False)
    if flat:
        return True, "at the edge of the grid, where its neighbour is as good"
    return False, "the optimum lies at the edge of the grid: learning rate unresolved"


def _trial(plan: Plan, candidate: Candidate, rate: float) -> Trial:
    return Trial(candidate=candidate.name, learning_rate=rate, seed=plan.protocol.seeds[0])


def _is_out(plan: Plan, ledger: Ledger, candidate: Candidate, rate: float) -> bool:
    for seed in plan.protocol.seeds:
        failed = ledger.failed(Trial(candidate=candidate.name, learning_rate=rate, seed=seed))
        if failed and (failed.failure is Failure.DIVERGED or seed == plan.protocol.seeds[0]):
            return True
    return False


def _is_flat_edge(
    plan: Plan, ledger: Ledger, candidate: Candidate, edge: float, *, rates: Sequence[float], step: int
) -> bool | None:
    """Return whether the neighbour of a rate on the edge is hardly worse; None unless both were measured."""
    neighbour = rates[1] if edge == rates[0] else rates[-2]
    ours, its = (ledger.evaluated(_trial(plan, candidate, rate), step) for rate in (edge, neighbour))
    if ours is None or its is None:
        return None
    gain, error = paired_difference(its, ours)
    return gain <= max(plan.protocol.noise_band * error, plan.protocol.margin / 2)


def _beyond(found: Search, plan: Plan, ledger: Ledger, candidate: Candidate, step: int) -> float | None:
    """Return the rate to try next, None where the grid needs no more or cannot grow."""
    rates = found.rates
    if len(rates) == 1:
        return None
    lower, higher = rates[0] * (rates[0] / rates[1]), rates[-1] * (rates[-1] / rates[-2])
    if found.alive:
        best = found.alive[0]
        if best not in (rates[0], rates[-1]):
            return None
        if _is_flat_edge(plan, ledger, candidate, best, rates=rates, step=step):
            return None
        return lower if best == rates[0] else higher
    failures = [ledger.failed(_trial(plan, candidate, rate)) for rate in rates]
    return lower if all(each is None or each.failure is Failure.DIVERGED for each in failures) else None
