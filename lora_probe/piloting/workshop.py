"""Which engine trains which trials: stacks where they can be, PEFT itself for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.piloting.records import Arm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import nn

    from lora_probe.piloting.data import PilotData
    from lora_probe.piloting.engine.protocols import Engine
    from lora_probe.piloting.records import Plan, Trial

__all__ = ["Workshop", "open_workshop"]

REFERENCE = "reference"


class Workshop:
    """The engines of one process, by name."""

    def __init__(self, engines: Mapping[str, Engine], apart: Mapping[str, str], *, first: str) -> None:
        self._engines, self._first = engines, first
        self.apart = apart
        """Candidates that PEFT itself trains, each with the reason."""

    def named(self, name: str) -> Engine:
        """Return the engine that a wave was made for."""
        return self._engines[name]

    def waves(self, trials: Sequence[Trial]) -> Iterator[tuple[str, tuple[Trial, ...]]]:
        """Yield engine and trials of each wave, the ones of one engine together."""
        for name in dict.fromkeys((self._first, REFERENCE)):
            own = [trial for trial in trials if self._engine_of(trial) == name]
            if own:
                yield from ((name, wave) for wave in self._engines[name].waves(own))

    def _engine_of(self, trial: Trial) -> str:
        return REFERENCE if trial.candidate in self.apart else self._first


def open_workshop(plan: Plan, model: nn.Module, data: PilotData, *, tell: Callable[[str], None]) -> Workshop:
    """Set up the engines that a plan needs; `tell` hears which, and why."""
    from lora_probe.piloting.engine.reference import ReferenceEngine
    from lora_probe.piloting.engine.stacked import StackedEngine

    reference = ReferenceEngine(plan, model, data)
    if plan.engine == REFERENCE:
        tell("every trial runs through PEFT itself, one after another, as asked for")
        return Workshop({REFERENCE: reference}, {}, first=REFERENCE)
    stacked = StackedEngine(plan, model, data)
    apart = stacked.unstackable()
    arms = {candidate.name: candidate.arm for candidate in plan.candidates}
    for reason in dict.fromkeys(reason for name, reason in apart.items() if arms[name] is Arm.LORA):
        tell(f"{reason}: trained through PEFT itself")
    return Workshop({REFERENCE: reference, stacked.name: stacked}, apart, first=stacked.name)
