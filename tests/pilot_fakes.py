"""An engine without a model: its numbers depend on the trials, the steps, and who shares the pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from zlib import crc32

import torch

from lora_probe.piloting.engine.protocols import StepReport
from lora_probe.piloting.errors import OutOfMemory
from lora_probe.piloting.log import Log, read_history
from lora_probe.piloting.observer import Observer
from lora_probe.piloting.passes import Desk
from lora_probe.piloting.protocol import next_units
from lora_probe.piloting.records import Evaluated, Failed, Failure, Plan, Split, Trained
from lora_probe.piloting.runner import Runner
from lora_probe.piloting.shards import ALONE, Shard, claimed
from tests.pilot_worlds import make_plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lora_probe.piloting.records import Result, Trial

__all__ = ["FakeEngine", "Heard", "measured", "run", "small_plan"]

ITEMS = 6


def small_plan(*names: str, steps: int = 12, **protocol: Any) -> Plan:
    """Return a plan with rungs, seeds and a rerun that is over after some dozens of fake steps."""
    from lora_probe.piloting.records import Training

    usual = {"rungs": (0.25,), "seeds": (0, 1), "evaluations": 3, "noise_band": 0.0}
    return make_plan(
        *(names or ("qv", "mlp", "attention")), protocol={**usual, **protocol}, training=Training(steps=steps)
    )


@dataclass(eq=False)
class FakeEngine:
    """Trains in no time; `fits` trials at once, and diverges or breaks where it is told to."""

    fits: int = 100
    size: int = 100
    """Trials of a wave."""
    diverges: Mapping[str, int] = field(default_factory=dict)
    """Candidate -> step."""
    breaks: Mapping[str, int] = field(default_factory=dict)
    starved_at: int = 0
    """The step at which too large a wave shows."""
    name: str = "fake"
    choice: str = "fake"
    reason: str = "it is fast"
    passes: list[tuple[tuple[Trial, ...], int]] = field(default_factory=list)
    """The trials of every session, and the step from which it went on."""
    open: int = 0

    def waves(self, trials: Sequence[Trial]) -> tuple[tuple[Trial, ...], ...]:
        """Divide trials by size."""
        starts = range(0, len(trials), self.size)
        return tuple(tuple(trials[start : start + self.size]) for start in starts)

    def start(self, trials: Sequence[Trial]) -> FakeSession:
        """Begin at step 0."""
        return FakeSession(self, tuple(trials))


class FakeSession:
    """Trials whose state is one number each."""

    def __init__(self, engine: FakeEngine, trials: tuple[Trial, ...]) -> None:
        self.trials, self.step = trials, 0
        self._engine = engine
        self._values = {trial: torch.zeros((), dtype=torch.float64) for trial in trials}
        self._failed: set[Trial] = set()
        engine.passes.append((trials, 0))
        engine.open += 1

    def train(self, step: int) -> StepReport:
        """Move every value by what depends on the trial, the step and the company."""
        assert step == self.step
        if len(self.trials) > self._engine.fits and step >= self._engine.starved_at:
            raise OutOfMemory(trials=len(self.trials), device="fake")
        failed = []
        for trial, value in self._values.items():
            if self._engine.breaks.get(trial.candidate) == step:
                raise RuntimeError("the kernel\nis broken")
            if self._engine.diverges.get(trial.candidate) == step and trial not in self._failed:
                self._failed.add(trial)
                reason = "the loss became infinite"
                failed.append(Failed(trial=trial, step=step, failure=Failure.DIVERGED, reason=reason))
            elif trial not in self._failed:
                company = _number([each.id for each in self.trials], 0)
                value.mul_(0.9).add_(_number(trial, step) + 1e-6 * company)
        self.step += 1
        losses = tuple(
            float("nan") if trial in self._failed else 4 - float(value)
            for trial, value in self._values.items()
        )
        return StepReport(step=step, losses=losses, gradient_norms=losses, tokens=7, failed=tuple(failed))

    def evaluate(self, split: Split) -> list[Evaluated]:
        """Return items that spread around the value."""
        return [
            Evaluated(
                trial=trial,
                step=self.step,
                split=split,
                nll=tuple(40 - 10 * float(value) + _number(split, item) for item in range(ITEMS)),
                tokens=(10,) * ITEMS,
            )
            for trial, value in self._values.items()
            if trial not in self._failed
        ]

    def state(self) -> dict[str, torch.Tensor]:
        """Return all values, and who failed."""
        found = {}
        for trial, value in self._values.items():
            found[f"{trial.id}/value"] = value.clone()
            found[f"{trial.id}/step"] = torch.tensor(self.step)
            found[f"{trial.id}/failed"] = torch.tensor(trial in self._failed)
        return found

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take over what belongs to the trials."""
        steps = {int(state[f"{trial.id}/step"]) for trial in self.trials}
        (self.step,) = steps
        self._values = {trial: state[f"{trial.id}/value"].clone() for trial in self.trials}
        self._failed = {trial for trial in self.trials if state[f"{trial.id}/failed"]}
        self._engine.passes[-1] = (self.trials, self.step)

    def save_adapter(self, trial: Trial, folder: Path) -> None:
        """Leave a file that names the trial."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "trial").write_text(trial.id)

    def dead(self) -> dict[Trial, tuple[str, ...]]:
        """Say that one path never got a gradient."""
        return dict.fromkeys(self.trials, ("model.dead",))

    def close(self) -> None:
        """Count the open sessions."""
        self._engine.open -= 1


class Heard(Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.failures: list[Failed] = []

    def said(self, message: str) -> None:
        """Keep a sentence."""
        self.sentences.append(message)

    def trial_failed(self, result: Failed) -> None:
        """Keep a failure."""
        self.failures.append(result)


def run(
    folder: Path,
    plan: Plan,
    engine: Any,
    *,
    shard: Shard = ALONE,
    observer: Observer | None = None,
    save_adapters: bool = False,
) -> tuple[str, ...]:
    """Run a pilot on a fake engine as one process would; return the shards that it waits for."""
    with claimed(folder, shard):
        desk = Desk(
            plan=plan,
            folder=folder,
            log=Log(folder / f"results{shard.suffix}.jsonl"),
            observer=observer or Observer(),
            prefix="" if shard.is_alone else f"{shard.suffix[1:]}-",
            save_adapters=save_adapters,
        )
        return Runner(desk=desk, engine=engine, ask=next_units, shard=shard).run()


def measured(folder: Path) -> dict[object, object]:
    """Return everything that was measured but the time it took, by what it is a measurement of."""
    return {_key(result): _value(result) for result in read_history(folder).results()}


def _key(result: Result) -> object:
    if isinstance(result, Evaluated):
        return result.trial, result.step, result.split
    return type(result), result.trial, getattr(result, "start", None)


def _value(result: Result) -> object:
    if isinstance(result, Trained):
        return result.losses, result.gradient_norms, result.dead, result.tokens
    return (result.nll, result.tokens) if isinstance(result, Evaluated) else (result.step, result.reason)


def _number(*parts: object) -> float:
    return crc32(repr(parts).encode()) / 2**32
