"""A stack of trials against a plain PEFT loop for each of them: how far apart they are."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from lora_probe.piloting.engine.stacked import StackedEngine
from tests.peft_loop import peft_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from torch import nn

    from lora_probe.piloting.data import PilotData
    from lora_probe.piloting.records import Plan, Trial

__all__ = ["BOUNDS", "Deviations", "assert_equal_to_peft", "deviations"]


@dataclass(kw_only=True, slots=True)
class Deviations:
    """The largest of all trials, steps and modules."""

    losses: float = 0.0
    """Nats per token."""
    norms: float = 0.0
    """Of gradients before clipping: share of PEFT's."""
    gradients: float = 0.0
    """Of any element after clipping: share of the norm of its trial's gradient."""
    matrices: float = 0.0
    """Of any element of A and B after the last step."""

    def note(self, kind: str, value: float) -> None:
        """Keep a deviation if it is the largest of its kind; what is no number is infinite."""
        setattr(self, kind, max(getattr(self, kind), math.inf if math.isnan(value) else value))


BOUNDS = Deviations(losses=1e-5, norms=1e-4, gradients=5e-5, matrices=1e-3)


def deviations(
    base: nn.Module, data: PilotData, plan: Plan, trials: Sequence[Trial], *, steps: int
) -> Deviations:
    """Train the trials in one stack and one by one with PEFT; return how far they are apart.

    Raises ValueError where the engine would not stack them.
    """
    found = Deviations()
    alone = {trial: peft_run(base, data, plan, trial, steps=steps) for trial in trials}
    engine = StackedEngine(plan, copy.deepcopy(base), data)
    if engine.alone:
        raise ValueError(f"not stacked: {engine.alone}")
    session = engine.start(trials)
    for step in range(steps):
        report = session.train(step)
        for trial, loss, norm in zip(trials, report.losses, report.gradient_norms, strict=True):
            run = alone[trial]
            found.note("losses", abs(loss - run.losses[step]))
            found.note("norms", abs(norm - run.norms[step]) / run.norms[step])
            _note_gradients(found, session, trial, run.gradients[step], plan)
    tensors = session.state()
    for trial in trials:
        for path in engine.candidates[trial.candidate].paths:
            a, b = alone[trial].matrices(path)
            found.note("matrices", _largest(tensors[f"{trial.id}/value.A/{path}"] - a))
            found.note("matrices", _largest(tensors[f"{trial.id}/value.B/{path}"].T - b))
    session.close()
    return found


def assert_equal_to_peft(
    base: nn.Module, data: PilotData, plan: Plan, trials: Sequence[Trial], *, steps: int = 3
) -> None:
    """Hold losses, gradients and matrices of a stack to those of PEFT."""
    found = deviations(base, data, plan, trials, steps=steps)
    for each in fields(found):
        assert getattr(found, each.name) <= getattr(BOUNDS, each.name), found


def _note_gradients(
    found: Deviations, session: Any, trial: Trial, expected: Mapping[str, torch.Tensor], plan: Plan
) -> None:
    """Compare the gradients of the last step, which the engine has clipped by now."""
    place = session._place[trial]
    norm = math.sqrt(sum(float(each.double().square().sum()) for each in expected.values()))
    factor = min(1.0, plan.training.clip / (norm + 1e-6)) if plan.training.clip else 1.0
    for name, gradient in expected.items():
        path, which = name.removeprefix("base_model.model.").rsplit(".lora_", 1)
        slot = session._adapters.slots[path]
        rank, at = slot.shapes[place].rank, place - slot.start
        ours = slot.gradient.a[at, :rank] if which.startswith("A") else slot.gradient.b[at, :rank].T
        found.note("gradients", _largest(ours - gradient * factor) / (norm * factor))


def _largest(difference: torch.Tensor) -> float:
    return float(difference.abs().max())
