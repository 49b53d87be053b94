"""Several stacks at the same time: one thread, one share of the cores, for each lane.

A step of a small model is many short operations; two cores that share each of them wait for each other more
than they work. Lanes share nothing but the frozen weights. Threads do, because torch lets go of Python's lock
while it computes: no second copy of the weights or of the data, and nothing to be cleaned up after a crash.
"""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

import torch

from lora_probe.piloting.engine.arrangement import arranged
from lora_probe.piloting.engine.protocols import StepReport
from lora_probe.piloting.engine.stacked import StackedEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from lora_probe.piloting.engine.layout import Layout
    from lora_probe.piloting.engine.session import StackedSession
    from lora_probe.piloting.records import Evaluated, Split, Trial

__all__ = ["LanedEngine", "LanedSession"]

T = TypeVar("T")


class LanedEngine:
    """Stacked engines side by side on modules of their own that share every weight; see `Engine`."""

    name = "stacked"

    def __init__(self, engine: StackedEngine, layout: Layout, *, reason: str = "") -> None:
        self.layout, self.choice, self.reason = layout, str(layout), reason
        self._first = engine
        self._others: list[StackedEngine] = []

    @property
    def size(self) -> int | None:
        """The most trials of a wave, as the plan or memory says; None for any number."""
        return self._first.wave or self._first.plan.wave

    def waves(self, trials: Sequence[Trial]) -> tuple[tuple[Trial, ...], ...]:
        """Divide trials into groups that share a session."""
        return self._first.waves(trials)

    def start(self, trials: Sequence[Trial]) -> LanedSession:
        """Set up trials at step 0; see `Engine`."""
        return LanedSession(self, trials)

    def lane(self, number: int) -> StackedEngine:
        """Return the engine of one lane; made at first use."""
        if number == 0:
            return self._first
        while len(self._others) < number:
            model = _same_weights(self._first.model)
            self._others.append(StackedEngine(self._first.plan, model, self._first.data))
        return self._others[number - 1]

    def targets(self, trial: Trial) -> frozenset[str]:
        """Return what a trial adapts."""
        return frozenset(self._first.candidates[trial.candidate].paths)


class LanedSession:
    """Trials in lanes of stacks; see `Session`."""

    def __init__(self, engine: LanedEngine, trials: Sequence[Trial]) -> None:
        self.trials = tuple(trials)
        order = arranged([engine.targets(trial) for trial in self.trials])
        divided = engine.layout.divide([self.trials[index] for index in order])
        self._pool = _threads(len(divided)) if len(divided) > 1 else None
        self._lanes: list[list[StackedSession]] = []
        try:
            for number, stacks in enumerate(divided):
                lane = engine.lane(number)
                self._lanes.append([])
                for stack in stacks:
                    self._lanes[-1].append(lane.start(stack))
        except BaseException:
            self.close()
            raise

    @property
    def step(self) -> int:
        """Steps that the trials have behind them."""
        return self._lanes[0][0].step

    def train(self, step: int) -> StepReport:
        """Take one optimizer step with every trial; see `Session`."""
        reports = self._each(lambda session: (session, session.train(step)))
        measured = {
            trial: (loss, norm)
            for session, report in reports
            for trial, loss, norm in zip(session.trials, report.losses, report.gradient_norms, strict=True)
        }
        return StepReport(
            step=step,
            losses=tuple(measured[trial][0] for trial in self.trials),
            gradient_norms=tuple(measured[trial][1] for trial in self.trials),
            tokens=reports[0][1].tokens,
            failed=tuple(failed for _, report in reports for failed in report.failed),
        )

    def evaluate(self, split: Split) -> list[Evaluated]:
        """Measure every trial that has not diverged; before the first step, one pass serves all."""
        if self.step == 0:
            once = self._lanes[0][0].evaluate(split)[0]
            return [replace(once, trial=trial) for trial in self.trials]
        parts = self._each(lambda session: session.evaluate(split))
        found = {each.trial: each for each in chain.from_iterable(parts)}
        return [found[trial] for trial in self.trials if trial in found]

    def state(self) -> dict[str, Tensor]:
        """Return the states of all stacks; see `Session`."""
        return {name: tensor for session in self._sessions() for name, tensor in session.state().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what `state` returned; see `Session`."""
        for session in self._sessions():
            session.load(state)
        steps = {session.step for session in self._sessions()}
        if len(steps) != 1:
            raise ValueError(f"the trials stand at different steps: {', '.join(map(str, sorted(steps)))}")

    def save_adapter(self, trial: Trial, folder: Path) -> None:
        """Write a trial's adapter; see `Session`."""
        next(session for session in self._sessions() if trial in session.trials).save_adapter(trial, folder)

    def dead(self) -> dict[Trial, tuple[str, ...]]:
        """Return the adapters without any gradient; see `Session`."""
        found = {trial: paths for session in self._sessions() for trial, paths in session.dead().items()}
        return {trial: found[trial] for trial in self.trials}

    def close(self) -> None:
        """Give the model back as it was, and end the threads."""
        for session in reversed(self._sessions()):
            session.close()
        if self._pool is not None:
            self._pool.shutdown()

    def _sessions(self) -> list[StackedSession]:
        return list(chain.from_iterable(self._lanes))

    def _each(self, work: Callable[[StackedSession], T]) -> list[T]:
        """Let every lane work on its stacks, one after another; raise the first error once all have ended.

        A single lane works in the caller's thread: in one of its own, which keeps a second set of helpers
        for torch's operations, these take half as long again.
        """

        def lane(sessions: Sequence[StackedSession]) -> list[T]:
            return [work(session) for session in sessions]

        if self._pool is None:
            return list(chain.from_iterable(map(lane, self._lanes)))
        pending = [self._pool.submit(lane, sessions) for sessions in self._lanes]
        wait(pending)
        return list(chain.from_iterable([future.result() for future in pending]))


def _threads(lanes: int) -> ThreadPoolExecutor:
    share = max(1, torch.get_num_threads() // lanes)
    return ThreadPoolExecutor(lanes, initializer=torch.set_num_threads, initargs=(share,))


def _same_weights(model: nn.Module) -> nn.Module:
    """Return a copy of the modules that holds the very same parameters and buffers."""
    kept = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    return copy.deepcopy(model, kept)
