"""Replaying the first steps of stacked trials through PEFT itself, and how far the two come apart."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lora_probe.piloting.records import Arm, Trial

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn

    from lora_probe.piloting.data import PilotData
    from lora_probe.piloting.engine.protocols import Engine, StepReport
    from lora_probe.piloting.records import Plan

__all__ = ["Verification", "verify"]

STEPS = 3
_MOST_TRIALS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """The largest differences over some steps of some trials."""

    trials: tuple[Trial, ...]
    """Empty where no candidate is stacked."""
    steps: int
    loss: float = 0.0
    """Nats per token."""
    gradient_norm: float = 0.0
    """Relative to the norm."""
    weight: float = 0.0
    """Of an element of A or B, after the last of the steps."""

    def __str__(self) -> str:
        """Return it as a sentence."""
        if not self.trials:
            return "nothing to verify: every trial runs through PEFT itself"
        return (
            f"verified against PEFT: over {self.steps} steps of {len(self.trials)} trials, "
            f"losses differ by at most {self.loss:.1e} nats a token, "
            f"gradient norms by {self.gradient_norm:.1e} of themselves, weights by {self.weight:.1e}"
        )


def verify(
    plan: Plan, engine: Engine, model: nn.Module, data: PilotData, *, steps: int = STEPS
) -> Verification:
    """Train one trial of each stacked candidate, up to four, both ways from the same start."""
    from lora_probe.piloting.engine.reference import ReferenceEngine

    reference = ReferenceEngine(plan, model, data)
    seed, rate = plan.protocol.seeds[0], plan.protocol.learning_rate
    apart = getattr(engine, "alone", {})
    trials = [
        Trial(candidate=each.name, learning_rate=rate, seed=seed)
        for each in plan.candidates
        if each.arm is Arm.LORA and each.name not in apart and engine.choice != reference.choice
    ][: min(_MOST_TRIALS, engine.size or _MOST_TRIALS)]
    steps = min(steps, plan.training.steps)
    if not trials:
        return Verification(trials=(), steps=steps)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        stacked = _replayed(engine, trials, steps, folder / "stacked")
        losses, norms = [], []
        for place, trial in enumerate(trials):
            alone = _replayed(reference, [trial], steps, folder / "peft", first=place)
            for one, other in zip(stacked, alone, strict=True):
                losses.append(abs(one.losses[place] - other.losses[0]))
                norm = other.gradient_norms[0]
                norms.append(abs(one.gradient_norms[place] - norm) / norm if norm else 0.0)
        weights = [_largest_difference(folder, str(place)) for place in range(len(trials))]
    return Verification(
        trials=tuple(trials),
        steps=steps,
        loss=_largest(losses),
        gradient_norm=_largest(norms),
        weight=_largest(weights),
    )


def _replayed(
    engine: Engine, trials: Sequence[Trial], steps: int, folder: Path, *, first: int = 0
) -> list[StepReport]:
    """Return what the first steps measured; the adapters are left in `folder`, numbered from `first`."""
    session = engine.start(trials)
    try:
        reports = [session.train(step) for step in range(steps)]
        for place, trial in enumerate(trials, first):
            session.save_adapter(trial, folder / str(place))
    finally:
        session.close()
    return reports


def _largest_difference(folder: Path, name: str) -> float:
    one, other = (dict(_tensors(folder / way / name)) for way in ("stacked", "peft"))
    if one.keys() != other.keys():
        return math.inf
    return max((float((one[key].float() - other[key].float()).abs().max()) for key in one), default=0.0)


def _tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    from safetensors.torch import load_file

    yield from load_file(folder / "adapter_model.safetensors").items()


def _largest(values: Sequence[float]) -> float:
    """Return the largest value; no number at all is worse than any."""
    return max((math.inf if math.isnan(value) else value for value in values), default=0.0)
