"""What a pilot asks of an engine, and what it gets back: the seam between the runner and torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from lora_probe.piloting.records import Evaluated, Failed, Split, Trial

__all__ = ["Engine", "Session", "StepReport"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """What one optimizer step of a session measured; tuples are in the order of `Session.trials`."""

    step: int
    """The step that was taken, counted from 0."""
    losses: tuple[float, ...]
    """Nats per labelled token, before the update; NaN for a trial that failed at this step or earlier."""
    gradient_norms: tuple[float, ...]
    """Before clipping; NaN likewise."""
    tokens: int
    """Labelled tokens of the step, of one trial."""
    failed: tuple[Failed, ...] = ()
    """The trials that diverged at this step: from now on they stay where they were, and count no more."""


class Session(Protocol):
    """Some trials that are trained side by side."""

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The trials, in the order in which they were asked for."""

    @property
    def step(self) -> int:
        """Steps that the trials have behind them."""

    def train(self, step: int) -> StepReport:
        """Take the `step`-th optimizer step, counted from 0, with every trial.

        Raises ValueError unless it is the next one, and OutOfMemory where it does not fit; then nothing was
        updated, but the session is of no more use.
        """

    def evaluate(self, split: Split) -> list[Evaluated]:
        """Measure every trial that has not diverged on every item of a part of the data."""

    def state(self) -> dict[str, Tensor]:
        """Return copies, on the CPU, of everything that the next step depends on.

        A key starts with the trial's id and a slash, and what belongs to a trial is exactly what lies under
        its id: checkpoints of different waves can be taken apart and put together again, trial by trial.
        """

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what `state` returned; bit-equal where the same trials share the pass.

        What belongs to other trials is ignored. Raises ValueError where something of a trial is missing, has
        another shape, or where the trials stand at different steps.
        """

    def save_adapter(self, trial: Trial, folder: Path) -> None:
        """Write a trial's adapter as a PEFT checkpoint that `PeftModel.from_pretrained` loads."""

    def dead(self) -> dict[Trial, tuple[str, ...]]:
        """Return the paths of adapters without any gradient in every step since start or load."""

    def close(self) -> None:
        """Give the model back as it was; calling it twice is harmless."""


class Engine(Protocol):
    """A way of training trials."""

    @property
    def name(self) -> str:
        """``stacked``, ``reference`` or ``mixed``."""

    @property
    def choice(self) -> str:
        """What was chosen by measuring; `make_engine` takes it back for a run that goes on."""

    @property
    def size(self) -> int | None:
        """The most trials of a wave; None for any number."""

    @property
    def reason(self) -> str:
        """One sentence: why this way, with the figures where it was measured."""

    def waves(self, trials: Sequence[Trial]) -> tuple[tuple[Trial, ...], ...]:
        """Divide trials into groups that share a session; the order is kept within a group."""

    def start(self, trials: Sequence[Trial]) -> Session:
        """Set up trials at step 0; raises OutOfMemory where so many do not fit."""
