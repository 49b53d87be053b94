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
    from lora_probe.piloting.records import Candidate, Evaluated, Plan

__all__ = ["Search", "planned_rates", "rates_kept", "search"]


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
    flat_edge: bool
    """Whether the best one is on the edge of the grid, and its neighbour as good as it."""

    def resolution(self, chosen: float) -> tuple[bool, str]:
        """Return whether `chosen` is known to be near the optimum, and why."""
        if len(self.rates) == 1:
            return False, "only one learning rate was tried"
        if chosen not in (self.rates[0], self.rates[-1]):
            between = "a failed one" if self._next_to_failed(chosen) else "worse ones"
            return True, f"the optimum lies inside the grid, next to {between}"
        if self.flat_edge and chosen == self.alive[0]:
            return True, "at the edge of the grid, where its neighbour is as good"
        return False, "the optimum lies at the edge of the grid: learning rate unresolved"

    def _next_to_failed(self, chosen: float) -> bool:
        place = self.rates.index(chosen)
        return bool({self.rates[place - 1], self.rates[place + 1]} & set(self.out))


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
    for extensions_left in range(plan.protocol.extensions, -1, -1):
        out = tuple(rate for rate in rates if _is_out(plan, ledger, candidate, rate))
        losses = {
            rate: each
            for rate in rates
            if rate not in out and (each := ledger.evaluated(_trial(plan, candidate, rate), step))
        }
        missing = tuple(rate for rate in rates if rate not in out and rate not in losses)
        alive = tuple(sorted(losses, key=lambda rate: losses[rate].loss))
        flat = not missing and _is_flat(plan, rates, alive, losses)
        found = Search(rates=rates, missing=missing, alive=alive, out=out, flat_edge=flat)
        beyond = None if missing or flat else _beyond(found, plan, ledger, candidate)
        if beyond is None or not extensions_left:
            break
        rates = tuple(sorted((*rates, beyond)))
    return found


def rates_kept(alive: Sequence[float], *, last: bool) -> tuple[float, ...]:
    """Return which rates go on after a rung, best first: the better half, after the last rung one."""
    return tuple(alive[: 1 if last else math.ceil(len(alive) / 2)])


def _trial(plan: Plan, candidate: Candidate, rate: float) -> Trial:
    return Trial(candidate=candidate.name, learning_rate=rate, seed=plan.protocol.seeds[0])


def _is_out(plan: Plan, ledger: Ledger, candidate: Candidate, rate: float) -> bool:
    for seed in plan.protocol.seeds:
        failed = ledger.failed(Trial(candidate=candidate.name, learning_rate=rate, seed=seed))
        if failed and (failed.failure is Failure.DIVERGED or seed == plan.protocol.seeds[0]):
            return True
    return False


def _is_flat(
    plan: Plan, rates: Sequence[float], alive: Sequence[float], losses: dict[float, Evaluated]
) -> bool:
    """Return whether the best rate is on the edge and its neighbour is hardly worse."""
    if not alive or len(rates) == 1 or alive[0] not in (rates[0], rates[-1]):
        return False
    neighbour = losses.get(rates[1] if alive[0] == rates[0] else rates[-2])
    if neighbour is None:
        return False
    gain, error = paired_difference(neighbour, losses[alive[0]])
    return gain <= max(plan.protocol.noise_band * error, plan.protocol.margin / 2)


def _beyond(found: Search, plan: Plan, ledger: Ledger, candidate: Candidate) -> float | None:
    """Return the rate to try next, None where the grid needs no more or cannot grow."""
    rates = found.rates
    if len(rates) == 1:
        return None
    lower, higher = rates[0] * (rates[0] / rates[1]), rates[-1] * (rates[-1] / rates[-2])
    if found.alive:
        return {rates[0]: lower, rates[-1]: higher}.get(found.alive[0])
    failures = [ledger.failed(_trial(plan, candidate, rate)) for rate in rates]
    return lower if all(each is None or each.failure is Failure.DIVERGED for each in failures) else None
