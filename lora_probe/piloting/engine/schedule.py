"""The learning rate of a step: linear warm-up, then constant, linear or cosine decay."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora_probe.piloting.records import Training

__all__ = ["learning_rate", "schedule_factor"]


def learning_rate(peak: float, step: int, training: Training) -> float:
    """Return the learning rate of the `step`-th optimizer step, counted from 0."""
    return peak * schedule_factor(step, training)


def schedule_factor(step: int, training: Training) -> float:
    """Return by what the peak learning rate is multiplied in the `step`-th optimizer step, counted from 0.

    The shapes are those of `transformers.get_scheduler`, except that no step is wasted on a learning rate
    of 0: the warm-up rises over ``ceil(warmup * steps)`` steps and starts one rung above 0, and the decay
    would reach 0 with the first step that is no longer taken. Raises ValueError for a schedule of another
    name.
    """
    rising = math.ceil(training.warmup * training.steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    done = min(1.0, (step - rising) / max(1, training.steps - rising))
    if training.schedule == "constant":
        return 1.0
    if training.schedule == "linear":
        return 1.0 - done
    if training.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * done))
    raise ValueError(f"the schedule is constant, linear or cosine, not {training.schedule!r}")
