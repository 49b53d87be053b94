"""One pass: the trials of a wave, trained from one step to another in stretches that each end in the log."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lora_probe.piloting.checkpoint import read_checkpoint, remove_others, write_checkpoint
from lora_probe.piloting.errors import OutOfMemory, UnwritableRun
from lora_probe.piloting.folder import ADAPTERS, CHECKPOINTS, adapter_name
from lora_probe.piloting.log import Entry, Saved
from lora_probe.piloting.records import Arm, Evaluated, Failed, Split, Trained
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from lora_probe.piloting.engine.protocols import Engine, Session, StepReport
    from lora_probe.piloting.log import Log, Wave
    from lora_probe.piloting.observer import Observer
    from lora_probe.piloting.records import Plan, Trial, Unit

__all__ = ["Desk", "PassCrashed", "evaluation_steps", "run_pass"]

_LONGEST_REASON = 300
_SHOWN = 3
"""Paths that a sentence names."""


class PassCrashed(Exception):
    """Something else than a lack of memory ended a pass; the message says what."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Desk:
    """What every pass of one process writes to and speaks with."""

    plan: Plan
    folder: Path
    log: Log
    observer: Observer
    prefix: str = ""
    """How the names of this process's waves and checkpoints begin."""
    save_adapters: bool = False

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.folder / CHECKPOINTS

    def record(self, wave: str, entries: Sequence[Entry]) -> None:
        """Log entries, then show them."""
        self.log.append([(wave, entry) for entry in entries])
        for entry in entries:
            if isinstance(entry, Evaluated):
                self.observer.evaluated(entry)
            elif isinstance(entry, Failed):
                self.observer.trial_failed(entry)


def evaluation_steps(plan: Plan, unit: Unit) -> tuple[int, ...]:
    """Return the steps at which a unit's trials are measured and saved: those of the whole run, and its last.

    They are the same for every unit, so that the curves of trials that went different ways meet.
    """
    steps = plan.training.steps
    times = min(plan.protocol.evaluations, steps)
    regular = (-(-steps * each // times) for each in range(1, times + 1))
    return tuple(step for step in sorted({*regular, unit.stop}) if unit.start < step <= unit.stop)


def run_pass(
    desk: Desk, engine: Engine, wave: Wave, *, states: Mapping[Trial, Saved], failed: Iterable[Trial]
) -> None:
    """Train and measure a wave from where its trials' checkpoints stand, logging stretch by stretch.

    Raises:
        OutOfMemory, PassCrashed: it does not fit, or breaks; what was logged before counts.
        UnwritableRun: the log or a checkpoint cannot be written.

    """
    with _engine_at_work():
        session = engine.start(wave.trials)
    try:
        step = _resume(desk, session, wave, states)
        desk.observer.wave_started(wave.unit, wave.trials, step)
        _Pass(desk=desk, session=session, wave=wave, failed=set(failed)).run(step)
    finally:
        session.close()


@dataclass(kw_only=True, slots=True)
class _Pass:
    desk: Desk
    session: Session
    wave: Wave
    failed: set[Trial]
    """Trials whose failure is in the log: the session may still carry them, for the composition's sake."""
    file: str = field(default="", init=False)

    def run(self, step: int) -> None:
        """Measure the unit, from `step` on."""
        unit = self.wave.unit
        while step < unit.start:  # its checkpoint is gone: on the way there nothing new is measured
            self._step(step)
            step += 1
        if unit.start == unit.stop:
            self.desk.record(self.wave.id, list(self._evaluated(unit.splits)))
            return
        for stop in evaluation_steps(self.desk.plan, unit):
            if stop > step and self._alive():
                self._stretch(step, stop)
                step = stop

    def _stretch(self, start: int, stop: int) -> None:
        """Train up to `stop`, measure, save, log: in this order, so that the log never says too much."""
        began = time.perf_counter()
        reports = [self._step(step) for step in range(start, stop)]
        seconds = time.perf_counter() - began
        entries: list[Entry] = list(self._trained(reports, start, seconds))
        self._warn_of_idle(entries)
        news = [each for report in reports for each in report.failed if each.trial not in self.failed]
        self.failed.update(each.trial for each in news)
        ends = stop == self.wave.unit.stop
        entries += [*news, *self._evaluated(self.wave.unit.splits if ends else (Split.TUNING,))]
        entries.append(self._save(stop))
        if self.desk.save_adapters and stop == self.desk.plan.training.steps:
            self._save_adapters()
        self.desk.record(self.wave.id, entries)
        # The one before is no longer needed; what a crash leaves is found by the next call.
        remove_others(self.desk.checkpoints, prefix=f"{self.wave.id}-", keep=[self.file])

    def _step(self, step: int) -> StepReport:
        began = time.perf_counter()
        with _engine_at_work():
            report = self.session.train(step)
        self.desk.observer.step_done(
            self.wave.trials,
            step + 1,
            report.losses,
            tokens=report.tokens * len(self._alive()),
            seconds=time.perf_counter() - began,
        )
        return report

    def _trained(self, reports: Sequence[StepReport], start: int, seconds: float) -> Iterator[Trained]:
        # Only of a unit's first stretch: sessions count from where they began, and a resumed one began later.
        looks = start == self.wave.unit.start
        dead = self.session.dead() if looks else {}
        ends = {each.trial: index for index, report in enumerate(reports) for each in report.failed}
        alive = [(place, each) for place, each in enumerate(self.session.trials) if each not in self.failed]
        for place, trial in alive:
            own = reports[: ends.get(trial)]
            yield Trained(
                trial=trial,
                start=start,
                losses=tuple(report.losses[place] for report in own),
                gradient_norms=tuple(report.gradient_norms[place] for report in own),
                dead=dead.get(trial, ()) if looks else None,
                tokens=sum(report.tokens for report in own),
                seconds=seconds / len(alive),
            )

    def _warn_of_idle(self, entries: Iterable[Entry]) -> None:
        """Say at once which adapters get no gradient: most likely the user wants to stop and look."""
        dead: dict[str, dict[str, None]] = {}
        for entry in entries:
            if isinstance(entry, Trained) and entry.dead and entry.start == 0:
                dead.setdefault(entry.trial.candidate, {}).update(dict.fromkeys(entry.dead))
        for name, paths in dead.items():
            shown = ", ".join(printable(path, limit=80) for path in list(paths)[:_SHOWN])
            more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
            self.desk.observer.said(f"{printable(name, limit=60)}: no gradient reaches {shown}{more}")

    def _evaluated(self, splits: Iterable[Split]) -> Iterator[Evaluated]:
        for split in splits if self._alive() else ():
            with _engine_at_work():
                measured = self.session.evaluate(split)
            yield from (each for each in measured if each.trial not in self.failed)

    def _save(self, step: int) -> Saved:
        self.file = f"{self.wave.id}-{step:07d}.safetensors"
        with _engine_at_work():
            state = self.session.state()
        write_checkpoint(self.desk.checkpoints / self.file, state)
        return Saved(wave=self.wave.id, trials=self.wave.trials, step=step, file=self.file)

    def _save_adapters(self) -> None:
        arms = {candidate.name: candidate.arm for candidate in self.desk.plan.candidates}
        for trial in self._alive():
            if arms[trial.candidate] is Arm.LORA:
                path = self.desk.folder / ADAPTERS / adapter_name(self.desk.plan, trial)
                try:
                    self.session.save_adapter(trial, path)
                except OSError as error:
                    raise UnwritableRun(path=str(path), error=error) from error

    def _alive(self) -> tuple[Trial, ...]:
        return tuple(trial for trial in self.wave.trials if trial not in self.failed)


def _resume(desk: Desk, session: Session, wave: Wave, states: Mapping[Trial, Saved]) -> int:
    """Bring a new session to where its trials stand; return the step."""
    unit = wave.unit
    found = {states[trial] for trial in wave.trials if trial in states}
    if unit.stop == 0 or (unit.start == 0 and not found):
        return 0
    steps = {each.step for each in found}
    whole = len(steps) == 1 and unit.start <= max(steps) <= unit.stop and states.keys() >= set(wave.trials)
    tensors = _merged(desk.checkpoints / each.file for each in found) if whole else None
    if tensors is None:
        desk.observer.said("a checkpoint is missing: its trials are trained again from their first step")
        return 0
    with _engine_at_work():
        session.load(tensors)
    return steps.pop()


def _merged(files: Iterable[Path]) -> dict[str, Tensor] | None:
    merged: dict[str, Tensor] = {}
    for path in sorted(files):
        tensors = read_checkpoint(path)
        if tensors is None:
            return None
        merged |= tensors
    return merged


@contextmanager
def _engine_at_work() -> Iterator[None]:
    """Tell what breaks in an engine, and may be a trial's own fault, from what breaks in the runner."""
    try:
        yield
    except (OutOfMemory, UnwritableRun):
        raise
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise PassCrashed(printable(text, limit=_LONGEST_REASON)) from error
