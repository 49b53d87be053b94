"""The loop of a pilot: ask the protocol, train what it asks for, log it, ask again."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lora_probe.piloting.checkpoint import remove_others
from lora_probe.piloting.errors import OutOfMemory
from lora_probe.piloting.log import Reader, Wave
from lora_probe.piloting.passes import PassCrashed, run_pass
from lora_probe.piloting.records import Failed, Failure
from lora_probe.piloting.shards import ALONE, Shard, live_siblings
from lora_probe.piloting.waves import current_round, halves, open_waves, states, uncovered_units, undone

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lora_probe.piloting.engine.protocols import Engine
    from lora_probe.piloting.log import History
    from lora_probe.piloting.passes import Desk
    from lora_probe.piloting.waves import Ask, Round

__all__ = ["Runner"]

_POLL_SECONDS = 0.5


@dataclass(kw_only=True, slots=True)
class Runner:
    """One process of a pilot; all that it knows is in the log, so that another can go on in its place."""

    desk: Desk
    engine: Engine
    ask: Ask
    shard: Shard = ALONE
    _waiting: bool = field(default=False, init=False)
    _round: int = field(default=0, init=False)
    _reader: Reader = field(init=False)

    def __post_init__(self) -> None:
        """Read the log of the folder that the desk writes to."""
        self._reader = Reader(self.desk.folder)

    def run(self) -> tuple[str, ...]:
        """Work until nothing is left, or nothing but what absent shards must do; return those as ``i/n``.

        Raises:
            UnwritableRun: the log or a checkpoint cannot be written.
            DamagedLog: somebody changed the log.

        """
        while True:
            history = self._reader.read()
            current = current_round(self.desk.plan, history, self.ask, start=self._round)
            self._round = current.number
            if current.is_complete:
                remove_others(self.desk.checkpoints, prefix="", keep=())
                return ()
            if waves := list(open_waves(current, self._reach(history))) or self._compose(current, history):
                self._work(waves, current, history)
            elif absent := self._absent(current):
                return absent
            else:
                time.sleep(_POLL_SECONDS)

    def _reach(self, history: History) -> tuple[Wave, ...]:
        """Return the waves that are this process's to go on with: alone it takes over anybody's."""
        prefix = "" if self.shard.is_alone else self.desk.prefix
        return tuple(wave for wave in history.waves if wave.id.startswith(prefix))

    def _compose(self, current: Round, history: History) -> list[Wave]:
        """Cut what this process has to do into waves, and log them: all of a round at once."""
        ids, plan = self._ids(history), self.desk.plan
        waves = [
            Wave(
                id=next(ids),
                round=current.number,
                unit=unit,
                trials=together,
                engine=self.engine.choice,
                size=self.engine.size,
            )
            for unit in uncovered_units(current, self._reach(history))
            if (own := tuple(trial for trial in unit.trials if self.shard.owns(trial, plan)))
            for together in self.engine.waves(own)
        ]
        self.desk.log.append([(wave.id, wave) for wave in waves])
        return waves

    def _ids(self, history: History) -> Iterator[str]:
        number = sum(wave.id.startswith(self.desk.prefix) for wave in history.waves)
        while True:
            number += 1
            yield f"{self.desk.prefix}{number:04d}"

    def _work(self, waves: Sequence[Wave], current: Round, history: History) -> None:
        """Do the first of the open waves: the others are there in the next turn, too."""
        self._settle(waves[0], self._trouble(waves[0], current, history))

    def _settle(self, wave: Wave, trouble: tuple[Failure, str] | None) -> None:
        """Say that a wave is over, or what becomes of its trials."""
        if trouble is not None:
            gc.collect()  # what the broken pass held, its traceback is gone by now
            self._give_up(wave, *trouble)
        results = self._reader.read().results()
        if not undone(wave.unit, results):
            self.desk.observer.unit_done(wave.unit)

    def _trouble(self, wave: Wave, current: Round, history: History) -> tuple[Failure, str] | None:
        failed = [result.trial for result in current.results if isinstance(result, Failed)]
        try:
            run_pass(self.desk, self.engine, wave, states=states(history.saved), failed=failed)
        except OutOfMemory as error:
            return Failure.OUT_OF_MEMORY, str(error)
        except PassCrashed as error:
            return Failure.CRASHED, str(error)
        return None

    def _give_up(self, wave: Wave, failure: Failure, reason: str) -> None:
        """Halve a wave that did not go through; what fails alone has failed."""
        history = self._reader.read()
        if len(wave.trials) > 1:
            parts = halves(wave, self._ids(history))
            sizes = " and ".join(str(len(part.trials)) for part in parts)
            why = "did not fit into memory" if failure is Failure.OUT_OF_MEMORY else f"broke ({reason})"
            self.desk.observer.said(f"{len(wave.trials)} trials at once {why}: going on with {sizes}")
            self.desk.log.append([(part.id, part) for part in parts])
            return
        trial = wave.trials[0]
        saved = states(history.saved).get(trial)
        step = saved.step if saved else wave.unit.start
        self.desk.record(wave.id, [Failed(trial=trial, step=step, failure=failure, reason=reason)])

    def _absent(self, current: Round) -> tuple[str, ...]:
        """Return the shards that have work left and nobody at it; none while the round can still end."""
        results = current.results
        left = (trial for unit in current.units for trial in undone(unit, results))
        owners = sorted({self.shard.owner(trial, self.desk.plan) for trial in left})
        needed = [f"{owner}/{self.shard.count}" for owner in owners]
        live = set(live_siblings(self.desk.folder, self.shard))
        if live.isdisjoint(needed):
            return tuple(needed)
        if not self._waiting:
            self._waiting = True
            self.desk.observer.said(
                f"shard {self.shard} has done its share and waits for {', '.join(needed)}"
            )
        return ()
