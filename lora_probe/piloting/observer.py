"""What a pilot tells whoever watches it, while it runs. Pure: no tensors, no terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lora_probe.piloting.records import Evaluated, Failed, Plan, Result, Trial, Unit

__all__ = ["Observer"]


class Observer:
    """Whoever watches a pilot; this one looks away. Subclasses override what they care about.

    The runner calls it from the process that writes the log, in the order in which things happen. An
    observer never changes what is measured: it gets finished records only.
    """

    def started(self, plan: Plan, results: Sequence[Result]) -> None:
        """See the plan and what an earlier run already measured; called once, first."""

    def said(self, message: str) -> None:
        """Hear one sentence about how the work is done: which engine and why, a wave that was halved."""

    def wave_started(self, unit: Unit, trials: Sequence[Trial], step: int) -> None:
        """See which `trials` of `unit` now train side by side; `step` is what they have behind them."""

    def step_done(
        self, trials: Sequence[Trial], step: int, losses: Sequence[float], *, tokens: int, seconds: float
    ) -> None:
        """See one optimizer step of all `trials` of the wave.

        `step` is what they have behind them now, `losses` are nats per trained token of each trial,
        `tokens` were trained on by all trials together, `seconds` is what the step took.
        """

    def evaluated(self, result: Evaluated) -> None:
        """See a trial's losses on a part of the data, as they went to the log."""

    def trial_failed(self, result: Failed) -> None:
        """See a trial end without a result, as it went to the log."""

    def unit_done(self, unit: Unit) -> None:
        """See that all trials of `unit` have reached its last step or failed."""

    def finished(self) -> None:
        """See the end: measured out, stopped by the user, or broken by an error; called once, last."""
