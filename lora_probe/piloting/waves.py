"""Which trials share a pass: what the protocol asks for, cut into waves that a log can bring back.

The protocol is asked in rounds. A round is over when every trial that it asked for has its measurements or
its reason for having none; only then is the protocol asked again, with all of it. So what is asked depends
neither on when a run was interrupted nor on which process was faster, and a log replays to the same place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lora_probe.piloting.records import Evaluated, Failed, Result, Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from lora_probe.piloting.log import History, Saved, Wave
    from lora_probe.piloting.records import Plan, Unit

    Ask = Callable[[Plan, Sequence[Result]], tuple[Unit, ...]]

__all__ = ["Round", "current_round", "halves", "open_waves", "states", "uncovered_units", "undone"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """What the protocol asked for, and what of it is still to be done."""

    number: int
    units: tuple[Unit, ...]
    """As the protocol asked for them; empty when the pilot is complete."""
    results: tuple[Result, ...]
    """Everything that was measured, this round's included."""

    @property
    def is_complete(self) -> bool:
        """Whether the protocol asked for nothing: the pilot is at its end."""
        return not self.units


def current_round(plan: Plan, history: History, ask: Ask, *, start: int = 0) -> Round:
    """Return the first round that is not over; rounds before `start` are known to be."""
    results = history.results()
    number = start
    while True:
        units = ask(plan, history.results(before_round=number))
        if not units or any(undone(unit, results) for unit in units):
            return Round(number=number, units=units, results=results)
        number += 1


def undone(unit: Unit, results: Iterable[Result]) -> tuple[Trial, ...]:
    """Return the trials of a unit that have neither failed nor been measured on all that it asks for."""
    wanted = frozenset(unit.splits)
    measured: dict[Trial, set[object]] = {trial: set() for trial in unit.trials}
    for result in results:
        if isinstance(result, Failed):
            measured.pop(result.trial, None)
        elif isinstance(result, Evaluated) and result.step == unit.stop and result.trial in measured:
            measured[result.trial].add(result.split)
    return tuple(trial for trial, splits in measured.items() if not wanted <= splits)


def open_waves(current: Round, waves: Iterable[Wave]) -> Iterator[Wave]:
    """Yield those of the begun `waves` that have something left to do in this round, in their order."""
    begun = [wave for wave in waves if wave.round == current.number]
    replaced = {wave.replaces for wave in begun}
    for wave in begun:
        if wave.id not in replaced and undone(replace(wave.unit, trials=wave.trials), current.results):
            yield wave


def uncovered_units(current: Round, waves: Iterable[Wave]) -> Iterator[Unit]:
    """Yield the round's units without the trials that are done, or that one of `waves` covers."""
    covered = {
        (trial, wave.unit.start, wave.unit.stop)
        for wave in open_waves(current, waves)
        for trial in wave.trials
    }
    for unit in current.units:
        left = [
            trial for trial in undone(unit, current.results) if (trial, unit.start, unit.stop) not in covered
        ]
        if left:
            yield replace(unit, trials=tuple(left))


def halves(wave: Wave, ids: Iterator[str]) -> tuple[Wave, ...]:
    """Return the two waves that take the place of one that did not fit."""
    middle = math.ceil(len(wave.trials) / 2)
    parts = (wave.trials[:middle], wave.trials[middle:])
    return tuple(replace(wave, id=next(ids), trials=part, replaces=wave.id) for part in parts)


def states(saved: Iterable[Saved]) -> Mapping[Trial, Saved]:
    """Return the furthest checkpoint of each trial."""
    found: dict[Trial, Saved] = {}
    for each in saved:
        for trial in each.trials:
            if trial not in found or found[trial].step <= each.step:
                found[trial] = each
    return found
