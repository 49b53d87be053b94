"""The protocol as a pure state machine: what to train next, from all that was measured so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lora_probe.piloting.halving import halve
from lora_probe.piloting.learning_rates import rates_kept, resolution, search
from lora_probe.piloting.ledger import Ledger
from lora_probe.piloting.records import Arm, Split, Trial, Unit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lora_probe.piloting.learning_rates import Search
    from lora_probe.piloting.outcome import Dropped
    from lora_probe.piloting.records import Candidate, Evaluated, Plan, Result

__all__ = ["Progress", "base_trial", "next_units", "progress", "rung_steps"]


@dataclass(kw_only=True, slots=True)
class Progress:
    """How far a pilot has come: what its protocol decided, and what it asks for."""

    units: tuple[Unit, ...] = ()
    """Work that can be done now; empty when the pilot is complete."""
    searches: dict[str, Search] = field(default_factory=dict)
    """By arm."""
    chosen: dict[str, float] = field(default_factory=dict)
    """The learning rate by arm: the best so far, the final one once the last rung is passed."""
    resolutions: dict[str, tuple[bool, str]] = field(default_factory=dict)
    """Whether that rate is known to be near the optimum, and why, by arm."""
    dropped: list[Dropped] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """Arms that failed at every learning rate."""
    finalists: tuple[str, ...] = ()
    """Arms that are trained to the end with every seed; empty before the last rung is passed."""
    rerun: Trial | None = None
    """The trial that repeats another."""


def next_units(plan: Plan, results: Iterable[Result]) -> tuple[Unit, ...]:
    """Return all work that can be done now, empty when the pilot is complete.

    It depends on the set of results alone: neither on their order nor on how often one is there. So a pilot
    that was interrupted goes on where its log ends, and processes that share a log agree on what is left.

    - The base is the trial :func:`base_trial` in a unit from step 0 to step 0.
    - A unit with `start == stop` trains nothing and evaluates its `splits` only.
    - A unit's work is done for a trial when an `Evaluated` at `stop` is there for each of `splits`, or a
      `Failed`. Trials go on from `start`, so their state there must be kept.
    - Units are independent of each other and may be split by trials; all that a unit's trials share is
      `start`, `stop` and `splits`.
    """
    return progress(plan, Ledger(results)).units


def base_trial(plan: Plan) -> Trial | None:
    """Return the trial of the base, None in a plan without one."""
    for candidate in plan.candidates:
        if candidate.arm is Arm.BASE:
            return Trial(candidate=candidate.name, learning_rate=0.0, seed=plan.protocol.seeds[0])
    return None


def rung_steps(plan: Plan) -> tuple[int, ...]:
    """Return the steps after which arms and learning rates are dropped, rising.

    Without rungs nothing is dropped, and learning rates are chosen at the end.
    """
    steps = plan.training.steps
    rungs = {min(steps, max(1, round(share * steps))) for share in plan.protocol.rungs}
    return tuple(sorted(rungs)) or (steps,)


def progress(plan: Plan, ledger: Ledger) -> Progress:
    """Return how far the pilot has come: rung by rung the search, then the finalists with every seed."""
    walk = _Walk(plan, ledger)
    walk.base()
    arms = [each for each in plan.candidates if each.arm is not Arm.BASE]
    for place, step in enumerate(walk.rungs):
        standing = walk.search(arms, place)
        if standing is None:
            return walk.result()
        arms = walk.halve(arms, standing, step)
        walk.repeat(standing, place)
    walk.finish(arms)
    return walk.result()


class _Walk:
    """One pass over the stages; stops at the first that lacks results."""

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self._plan, self._ledger = plan, ledger
        self._progress = Progress()
        self._rates: dict[str, tuple[float, ...]] = {}
        self._work: dict[tuple[int, int, tuple[Split, ...]], list[Trial]] = {}
        self.rungs = rung_steps(plan)
        retention = (Split.RETENTION,) if plan.data.retention_examples else ()
        self._at_the_end = (Split.TUNING, Split.TEST, *retention)

    def result(self) -> Progress:
        self._progress.units = tuple(
            Unit(trials=tuple(trials), start=start, stop=stop, splits=splits)
            for (start, stop, splits), trials in self._work.items()
        )
        return self._progress

    def base(self) -> None:
        if trial := base_trial(self._plan):
            self._ask(trial, start=0, stop=0, splits=self._at_the_end)

    def search(self, arms: Sequence[Candidate], place: int) -> dict[str, Evaluated] | None:
        """Return the losses of each arm at its best rate after a rung; None, and ask, where some lack."""
        step, behind = self.rungs[place], self.rungs[place - 1] if place else 0
        complete = True
        for arm in arms:
            if place == 0:
                found = search(self._plan, self._ledger, arm, step=step)
                self._progress.searches[arm.name] = found
                self._rates[arm.name] = found.alive
                asked = found.missing
            else:
                asked = self._rates[arm.name]
            for rate in asked:
                complete &= not self._ask(self._trial(arm, rate), start=behind, stop=step)
        if place and (trial := self._progress.rerun) and self._twin(trial) in self._trials_alive(arms):
            complete &= not self._ask(trial, start=behind if place > 1 else 0, stop=step)
        return dict(self._standing(arms, place)) if complete else None

    def halve(self, arms: Sequence[Candidate], standing: dict[str, Evaluated], step: int) -> list[Candidate]:
        """Return the arms that go on; full fine-tuning is compared with no other."""
        rivals = {
            arm.name: standing[arm.name] for arm in arms if arm.arm is Arm.LORA and arm.name in standing
        }
        halving = halve(rivals, self._plan.protocol, step=step, rerun=self._rerun_noise(step))
        self._progress.dropped += halving.dropped
        return [
            arm for arm in arms if arm.name in standing and (arm.arm is Arm.FULL or arm.name in halving.kept)
        ]

    def repeat(self, standing: dict[str, Evaluated], place: int) -> None:
        """Choose, after the first rung, which trial is run again: that of the best arm."""
        if place or not self._plan.protocol.rerun:
            return
        rivals = [each for each in standing.values() if self._arm(each.trial.candidate).arm is Arm.LORA]
        if rivals:
            best = min(rivals, key=lambda each: (each.loss, each.trial)).trial
            self._progress.rerun = Trial(
                candidate=best.candidate, learning_rate=best.learning_rate, seed=best.seed, repeat=1
            )

    def finish(self, arms: Sequence[Candidate]) -> None:
        """Ask for what lacks of the finalists: every seed at the chosen rate, and the repeated run."""
        self._progress.finalists = tuple(arm.name for arm in arms)
        stop, last = self._plan.training.steps, self.rungs[-1]
        for arm in arms:
            rate = self._progress.chosen[arm.name]
            self._ask(self._trial(arm, rate), start=last, stop=stop, splits=self._at_the_end)
            for seed in self._plan.protocol.seeds[1:]:
                trial = Trial(candidate=arm.name, learning_rate=rate, seed=seed)
                self._ask(trial, start=0, stop=stop, splits=self._at_the_end)
        again = self._progress.rerun
        if again and self._twin(again) in {self._trial(arm, self._progress.chosen[arm.name]) for arm in arms}:
            self._ask(again, start=last if len(self.rungs) > 1 else 0, stop=stop)

    def _standing(self, arms: Sequence[Candidate], place: int) -> Iterator[tuple[str, Evaluated]]:
        """Yield the best of each arm's rates after a rung, and keep the better of them for the next."""
        last = place == len(self.rungs) - 1
        for arm in arms:
            found = [
                each
                for rate in self._rates[arm.name]
                if (each := self._ledger.evaluated(self._trial(arm, rate), self.rungs[place]))
            ]
            if not found:
                self._progress.failed.append(arm.name)
                continue
            found.sort(key=lambda each: (each.loss, each.trial.learning_rate))
            kept = rates_kept([each.trial.learning_rate for each in found], last=last)
            self._rates[arm.name] = kept
            self._progress.chosen[arm.name] = kept[0]
            self._progress.resolutions[arm.name] = resolution(
                self._plan,
                self._ledger,
                arm,
                self._progress.searches[arm.name],
                kept[0],
                steps=self.rungs[: place + 1],
            )
            yield arm.name, found[0]

    def _ask(
        self, trial: Trial, *, start: int, stop: int, splits: tuple[Split, ...] = (Split.TUNING,)
    ) -> bool:
        """Ask for what lacks of a trial, and return whether something does."""
        missing = tuple(split for split in splits if not self._ledger.evaluated(trial, stop, split))
        if not missing or self._ledger.failed(trial):
            return False
        if len(missing) < len(splits):
            start = stop
        self._work.setdefault((start, stop, missing), []).append(trial)
        return True

    def _trial(self, arm: Candidate, rate: float) -> Trial:
        return Trial(candidate=arm.name, learning_rate=rate, seed=self._plan.protocol.seeds[0])

    def _arm(self, name: str) -> Candidate:
        return next(each for each in self._plan.candidates if each.name == name)

    def _twin(self, trial: Trial) -> Trial:
        return Trial(candidate=trial.candidate, learning_rate=trial.learning_rate, seed=trial.seed)

    def _trials_alive(self, arms: Sequence[Candidate]) -> set[Trial]:
        return {self._trial(arm, rate) for arm in arms for rate in self._rates[arm.name]}

    def _rerun_noise(self, step: int) -> float | None:
        """Return by how much two equal runs differ at the last rung, up to `step`, that both reached."""
        again = self._progress.rerun
        if again is None:
            return None
        for rung in (each for each in reversed(self.rungs) if each <= step):
            first = self._ledger.evaluated(self._twin(again), rung)
            second = self._ledger.evaluated(again, rung)
            if first and second:
                return abs(first.loss - second.loss)
        return None
