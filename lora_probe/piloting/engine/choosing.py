"""Which engine trains a plan: what PEFT alone can do goes to PEFT, and the rest is spread as a clock says."""

from __future__ import annotations

import math
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from lora_probe.piloting.engine.footprint import trials_that_fit
from lora_probe.piloting.engine.lanes import LanedEngine
from lora_probe.piloting.engine.layout import Layout
from lora_probe.piloting.engine.reference import ReferenceEngine
from lora_probe.piloting.engine.stacked import StackedEngine
from lora_probe.piloting.errors import NotStackable, OutOfMemory
from lora_probe.piloting.records import Arm, Trial

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from lora_probe.piloting.data.examples import PilotData
    from lora_probe.piloting.engine.protocols import Engine, Session
    from lora_probe.piloting.records import Plan

__all__ = ["MixedEngine", "make_engine", "measured_layouts"]

_WAVE = 8
"""Trials of a wave where the plan does not say: beyond, stacking gains little and memory goes on growing."""
_TIMED_STEPS = 3
_CLOSE = 1.15
"""Layouts within this factor of the fastest are timed once more."""
_HOPELESS = 1.5
"""A layout this many times slower than the best so far is not timed any further."""


def make_engine(plan: Plan, model: nn.Module, data: PilotData, *, layout: str | None = None) -> Engine:
    """Return the engine for a plan; its `reason` says why it is this one, with the figures.

    `layout` is what an earlier engine for the same plan had as its `choice`: it makes the measuring
    unnecessary, and the numbers those of the earlier run. Raises NotStackable where the plan insists on
    stacking and a candidate cannot be stacked, OutOfMemory where not even one trial fits.
    """
    if "reference" in (plan.engine, layout):
        return ReferenceEngine(plan, model, data)
    stacked = StackedEngine(plan, model, data)
    alone = stacked.alone
    if alone and plan.engine == "stacked":
        raise NotStackable(reason=next(iter(alone.values())))
    some = [each for each in plan.candidates if each.name not in alone and each.arm is not Arm.BASE]
    if not some:
        return ReferenceEngine(plan, model, data, reason=_alone(alone))
    if layout is None:
        chosen, reason = _fastest(stacked)
    else:
        chosen, reason = Layout.parse(layout), "as this pilot began"
    laned = LanedEngine(stacked, chosen, reason=reason)
    if not alone:
        return laned
    reference = ReferenceEngine(plan, model, data, reason=_alone(alone))
    return MixedEngine(laned, reference, alone)


class MixedEngine:
    """Stacking for the candidates that can be stacked, PEFT for the others; see `Engine`."""

    name = "mixed"

    def __init__(self, stacked: LanedEngine, reference: ReferenceEngine, alone: Mapping[str, str]) -> None:
        self._stacked, self._reference, self.alone = stacked, reference, alone
        self.reason = f"{stacked.reason}; {reference.reason}"
        self.choice, self.size = stacked.choice, stacked.size

    def waves(self, trials: Sequence[Trial]) -> tuple[tuple[Trial, ...], ...]:
        """Divide trials by the engine that trains them, then as that engine does."""
        together = [trial for trial in trials if trial.candidate not in self.alone]
        apart = [trial for trial in trials if trial.candidate in self.alone]
        return (*self._stacked.waves(together), *self._reference.waves(apart))

    def start(self, trials: Sequence[Trial]) -> Session:
        """Set up trials at step 0; see `Engine`."""
        if any(trial.candidate in self.alone for trial in trials):
            return self._reference.start(trials)
        return self._stacked.start(trials)


def measured_layouts(
    engine: StackedEngine, trials: Sequence[Trial], layouts: Sequence[Layout]
) -> dict[Layout, float]:
    """Return the seconds of one step in each layout, the least of a few; what does not fit is left out.

    Nothing that is trained meanwhile is kept.
    """
    found: dict[Layout, float] = {}
    for layout in layouts:
        try:
            session = LanedEngine(engine, layout).start(trials)
        except OutOfMemory:
            continue
        try:
            for step in range(1 + _TIMED_STEPS):
                start = perf_counter()
                session.train(step)
                if engine.device.type != "cpu":
                    torch.accelerator.synchronize()
                if step:  # the first one warms up
                    found[layout] = min(found.get(layout, math.inf), perf_counter() - start)
                if found and perf_counter() - start > _HOPELESS * min(found.values()):
                    break
        except OutOfMemory:
            found.pop(layout, None)
        finally:
            session.close()
    return found


def _fastest(engine: StackedEngine) -> tuple[Layout, str]:
    trials = _probe_trials(engine)
    engine.wave = min(engine.plan.wave or _WAVE, trials_that_fit(engine, trials[0]))
    trials = trials[: engine.wave]
    cores = torch.get_num_threads() if engine.device.type == "cpu" else 1
    if len(trials) == 1:
        return Layout(), "one trial at a time"
    lanes = sorted({1, min(2, cores), min(cores, len(trials))})
    layouts = [Layout(lanes=number, stack=stack) for stack in (None, 1) for number in lanes]
    seconds = measured_layouts(engine, trials, layouts)
    if not seconds:
        raise OutOfMemory(trials=len(trials), device=str(engine.device))
    close = [each for each in layouts if seconds.get(each, math.inf) <= _CLOSE * min(seconds.values())]
    if len(close) > 1:  # what a busy moment put behind gets another chance
        for layout, again in measured_layouts(engine, trials, close).items():
            seconds[layout] = min(seconds[layout], again)
    ranked = sorted(seconds, key=seconds.__getitem__)
    figures = ", ".join(f"{layout.sentence} {1e3 * seconds[layout]:.0f} ms" for layout in ranked)
    return ranked[0], f"{ranked[0].sentence} was the fastest for {len(trials)} trials a step: {figures}"


def _probe_trials(engine: StackedEngine) -> list[Trial]:
    """Return as many different trials as a wave has, over all candidates that can be stacked."""
    names = [name for name in engine.candidates if engine.candidates[name].paths and name not in engine.alone]
    rate = engine.plan.protocol.learning_rate
    return [
        Trial(candidate=names[index % len(names)], learning_rate=rate, seed=index // len(names))
        for index in range(engine.plan.wave or _WAVE)
    ]


def _alone(reasons: Mapping[str, str]) -> str:
    return "PEFT itself, one trial after another: " + "; ".join(dict.fromkeys(reasons.values()))
