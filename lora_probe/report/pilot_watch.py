"""How a running pilot stands: what was heard of it, as plain numbers for whoever draws them."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from lora_probe.piloting.halving import FEWEST_FINALISTS
from lora_probe.piloting.ledger import Ledger
from lora_probe.piloting.observer import Observer
from lora_probe.piloting.protocol import progress, rung_steps
from lora_probe.piloting.records import Arm, Evaluated, Failed, Split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lora_probe.piloting.protocol import Progress
    from lora_probe.piloting.records import Plan, Result, Trial, Unit

__all__ = ["Snapshot", "Standing", "Watch", "remaining_steps"]

_RECENT = 20
"""Steps over which the speed is averaged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """One arm on the tuning part, at the furthest step that it was measured at."""

    candidate: str
    step: int
    learning_rate: float
    loss: float
    """At its best learning rate there, the mean over seeds."""
    dropped: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """A running pilot at one moment. A trial step is one step of one trial."""

    trials: int
    """That train side by side now."""
    step: int
    stop: int
    """Of the unit that is trained now."""
    done: int
    """Trial steps, earlier runs' included."""
    expected: int
    """Trial steps in all, as far as can be said beforehand."""
    tokens_per_second: float | None
    seconds_left: float | None
    standings: tuple[Standing, ...]
    """Best first, those that came furthest before others, dropped ones last."""


class Watch(Observer):
    """Keeps account of a pilot; what it shows of it is up to subclasses."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._plan: Plan | None = None
        self._results: list[Evaluated | Failed] = []
        self._stage: Progress | None = None
        self._wave: tuple[int, int, int] = (0, 0, 0)
        self._speed: deque[tuple[int, float]] = deque(maxlen=_RECENT)
        self._done = self._left = self._done_here = 0
        self._since: float | None = None

    def started(self, plan: Plan, results: Sequence[Result]) -> None:
        """Take up the account where an earlier run left it."""
        self._plan = plan
        self._results = [each for each in results if isinstance(each, (Evaluated, Failed))]
        furthest: dict[Trial, int] = {}
        for each in self._results:
            furthest[each.trial] = max(each.step, furthest.get(each.trial, 0))
        self._done = sum(furthest.values())
        self._stand()

    def wave_started(self, unit: Unit, trials: Sequence[Trial], step: int) -> None:
        """Remember what is trained now."""
        self._wave = (len(trials), step, unit.stop)
        if self._since is None:
            self._since = self._clock()

    def step_done(
        self, trials: Sequence[Trial], step: int, losses: Sequence[float], *, tokens: int, seconds: float
    ) -> None:
        """Count one step of each trial that still learns."""
        alive = sum(map(math.isfinite, losses))
        self._wave = (len(trials), step, max(step, self._wave[2]))
        self._speed.append((tokens, seconds))
        self._done += alive
        self._done_here += alive
        self._left = max(0, self._left - alive)

    def evaluated(self, result: Evaluated) -> None:
        """Keep a measurement."""
        self._results.append(result)

    def trial_failed(self, result: Failed) -> None:
        """Keep a failure."""
        self._results.append(result)

    def unit_done(self, unit: Unit) -> None:  # noqa: ARG002 - what the protocol says next is all that counts
        """See what the protocol makes of it."""
        self._stand()

    def dropped(self) -> dict[str, str]:
        """Return why arms were taken out, by name."""
        return {each.candidate: each.reason for each in self._stage.dropped} if self._stage else {}

    def snapshot(self) -> Snapshot:
        """Return how the pilot stands now."""
        trials, step, stop = self._wave
        tokens, seconds = (
            (sum(values) for values in zip(*self._speed, strict=True)) if self._speed else (0, 0.0)
        )
        per_step = (
            (self._clock() - self._since) / self._done_here if self._since and self._done_here else None
        )
        return Snapshot(
            trials=trials,
            step=step,
            stop=stop,
            done=self._done,
            expected=self._done + self._left,
            tokens_per_second=tokens / seconds if seconds else None,
            seconds_left=None if per_step is None else per_step * self._left,
            standings=tuple(
                sorted(self._standings(), key=lambda each: (each.dropped, -each.step, each.loss))
            ),
        )

    def _stand(self) -> None:
        """Ask the protocol how far the pilot has come."""
        if self._plan is not None:
            self._stage = progress(self._plan, Ledger(self._results))
            self._left = remaining_steps(self._plan, self._stage)

    def _standings(self) -> Iterator[Standing]:
        out = self.dropped()
        measured = [
            each
            for each in self._results
            if isinstance(each, Evaluated) and each.split is Split.TUNING and not each.trial.repeat
        ]
        for name in dict.fromkeys(each.trial.candidate for each in measured):
            step = max(each.step for each in measured if each.trial.candidate == name)
            losses: dict[float, list[float]] = {}
            for each in measured:
                if (each.trial.candidate, each.step) == (name, step):
                    losses.setdefault(each.trial.learning_rate, []).append(each.loss)
            loss, rate = min((sum(found) / len(found), rate) for rate, found in losses.items())
            yield Standing(candidate=name, step=step, learning_rate=rate, loss=loss, dropped=name in out)


def remaining_steps(plan: Plan, stage: Progress) -> int:
    """Return about how many trial steps are left: what is asked for now, and what may be asked for next.

    What comes next is counted as if each rung kept no more arms than it must, and no grid were extended.
    """
    asked = sum(len(unit.trials) * (unit.stop - unit.start) for unit in stage.units)
    if stage.finalists or not asked:
        return asked
    protocol, steps, rungs = plan.protocol, plan.training.steps, rung_steps(plan)
    behind = max(unit.stop for unit in stage.units)
    out = {each.candidate for each in stage.dropped} | set(stage.failed)
    arms = [each.arm for each in plan.candidates if each.name not in out]
    sets, full, rates = arms.count(Arm.LORA), arms.count(Arm.FULL), len(protocol.grid)
    for before, rung in pairwise(rungs):
        rates = math.ceil(rates / 2)
        if before >= behind:
            sets = _kept(sets, protocol.keep)
            asked += (sets + full) * rates * (rung - before)
    sets = _kept(sets, protocol.keep) if protocol.rungs else sets
    to_the_end = (len(protocol.seeds) - 1) * steps + steps - rungs[-1]
    return asked + (sets + full) * to_the_end + protocol.rerun * (steps - rungs[0])


def _kept(sets: int, share: float) -> int:
    return min(sets, max(FEWEST_FINALISTS, math.ceil(share * sets)))
