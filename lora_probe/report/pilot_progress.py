"""A pilot while it runs: a live display on a terminal, plain lines anywhere else, or nothing.

All of it goes to standard error: standard output belongs to the result.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from lora_probe.piloting.observer import Observer
from lora_probe.piloting.records import Arm, Split
from lora_probe.report.numbers import exact
from lora_probe.report.pilot_watch import Watch
from lora_probe.report.pilot_wording import duration, failure_text, loss_text
from lora_probe.report.wording import shown
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TextIO

    from rich.console import Console, RenderableType

    from lora_probe.piloting.records import Evaluated, Failed, Plan, Result, Trial, Unit
    from lora_probe.report.pilot_watch import Snapshot

__all__ = ["LineProgress", "LiveProgress", "progress_for"]

_SILENCE_SECONDS = 30.0
"""After which a line says that the work goes on."""
_BAR = 40


def progress_for(*, quiet: bool = False, stream: TextIO | None = None) -> Observer:
    """Return who watches a pilot for the reader of `stream`, by default standard error."""
    stream = stream or sys.stderr
    if quiet:
        return Observer()
    if stream.isatty():
        from rich.console import Console

        return LiveProgress(Console(file=stream))
    return LineProgress(stream)


class LineProgress(Watch):
    """One line for each thing that happens, for logs and pipes."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock=clock)
        self._stream = stream
        self._told: set[str] = set()
        self._measured: list[Evaluated] = []
        self._last = clock()

    def started(self, plan: Plan, results: Sequence[Result]) -> None:
        """Say what will be compared, and how much is already there."""
        super().started(plan, results)
        self._told = set(self.dropped())
        self._say(start_text(plan, self.snapshot()))

    def said(self, message: str) -> None:
        """Pass it on."""
        self._say(message)

    def wave_started(self, unit: Unit, trials: Sequence[Trial], step: int) -> None:
        """Say how many trials train together, and how far."""
        super().wave_started(unit, trials, step)
        self._flush()
        if unit.stop > step:
            self._say(f"training {_trials(len(trials))}, steps {step + 1} to {unit.stop}")

    def step_done(
        self, trials: Sequence[Trial], step: int, losses: Sequence[float], *, tokens: int, seconds: float
    ) -> None:
        """Say every half minute that it goes on."""
        super().step_done(trials, step, losses, tokens=tokens, seconds=seconds)
        self._flush()
        if self._clock() - self._last >= _SILENCE_SECONDS:
            self._say(" · ".join(state_texts(self.snapshot())))

    def evaluated(self, result: Evaluated) -> None:
        """Collect what belongs on one line."""
        super().evaluated(result)
        self._measured.append(result)

    def trial_failed(self, result: Failed) -> None:
        """Say which trial failed and why."""
        super().trial_failed(result)
        self._say(failure_text(result))

    def unit_done(self, unit: Unit) -> None:
        """Say what was measured, and who is out."""
        super().unit_done(unit)
        self._flush()
        for name, reason in self.dropped().items():
            if name not in self._told:
                self._told.add(name)
                self._say(f"dropped {name}, {reason}")

    def finished(self) -> None:
        """Say what is left to be said."""
        self._flush()

    def _flush(self) -> None:
        """Say the losses that were measured together, of each arm at its best, best first."""
        best: dict[str, Evaluated] = {}
        for each in sorted(self._measured, key=lambda each: each.loss):
            if each.split is Split.TUNING:
                best.setdefault(each.trial.candidate, each)
        self._measured.clear()
        if best:
            losses = ", ".join(f"{trial_text(each.trial)} {loss_text(each.loss)}" for each in best.values())
            self._say(f"held-out loss after step {max(each.step for each in best.values())}: {losses}")

    def _say(self, message: str) -> None:
        self._last = self._clock()
        self._stream.write(f"{printable(message)}\n")
        self._stream.flush()


class LiveProgress(Watch):
    """How the pilot stands, redrawn in place; what is worth keeping stays above it."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.live import Live

        super().__init__(clock=clock)
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=4, transient=True)

    def started(self, plan: Plan, results: Sequence[Result]) -> None:
        """Begin to draw."""
        super().started(plan, results)
        self._keep(start_text(plan, self.snapshot()))
        self._live.start(refresh=True)

    def said(self, message: str) -> None:
        """Keep it."""
        self._keep(message)

    def trial_failed(self, result: Failed) -> None:
        """Keep which trial failed and why."""
        super().trial_failed(result)
        self._keep(failure_text(result))

    def unit_done(self, unit: Unit) -> None:
        """Keep who is out."""
        before = set(self.dropped())
        super().unit_done(unit)
        for name, reason in self.dropped().items():
            if name not in before:
                self._keep(f"dropped {name}, {reason}")

    def finished(self) -> None:
        """Clear the display; called again, do nothing."""
        self._live.stop()

    def render(self) -> RenderableType:
        """Return what is drawn now: bar, state, and the arms as they stand on the tuning part."""
        from rich.console import Group
        from rich.padding import Padding
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        now = self.snapshot()
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(overflow="fold")
        for _ in range(3):
            table.add_column(justify="right", no_wrap=True)
        if now.standings:
            table.add_row("set", "held-out loss", "step", "learning rate", style="dim")
        for each in now.standings:
            rate = f"{each.learning_rate:.3g}" if each.learning_rate else ""
            cells = (shown(each.candidate), loss_text(each.loss), str(each.step), rate)
            table.add_row(*map(Text, cells), style="dim strike" if each.dropped else "")
        bar = ProgressBar(total=max(1, now.expected), completed=now.done, width=_BAR)
        return Group(Padding(bar, 0), Text(" · ".join(state_texts(now))), Padding(table, (1, 0, 0, 2)))

    def _keep(self, message: str) -> None:
        from rich.text import Text

        self._live.console.print(Text(printable(message)))


def start_text(plan: Plan, now: Snapshot) -> str:
    """Return what is compared, and how much work it is."""
    arms = sum(each.arm is Arm.LORA for each in plan.candidates)
    behind = f", {exact(now.done)} of them done" if now.done else ""
    return f"{arms} sets on {plan.model.model}: about {exact(now.expected)} trial steps{behind}"


def state_texts(now: Snapshot) -> list[str]:
    """Return how the work stands: what trains, how fast, how long it may still take."""
    known = [
        f"{_trials(now.trials)}, step {exact(now.step)} of {exact(now.stop)}" if now.stop else "",
        f"{exact(now.done)} of about {exact(now.expected)} trial steps",
        f"{exact(round(now.tokens_per_second))} tokens/s" if now.tokens_per_second else "",
        f"{duration(now.seconds_left)} left" if now.seconds_left is not None else "",
    ]
    return [text for text in known if text]


def trial_text(trial: Trial) -> str:
    """Return a trial as people call it; the base has no learning rate."""
    again = " (again)" if trial.repeat else ""
    rate = f" at {trial.learning_rate:.3g}" if trial.learning_rate else ""
    seed = f", seed {trial.seed}" if trial.seed else ""
    return f"{trial.candidate}{rate}{seed}{again}"


def _trials(count: int) -> str:
    return "1 trial" if count == 1 else f"{exact(count)} trials at once"
