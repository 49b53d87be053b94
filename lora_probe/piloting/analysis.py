"""From a plan and its results to everything that is shown of a pilot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.piloting.outcome import (
    Analysis,
    Answer,
    Comparison,
    Confidence,
    Dropped,
    LeaderboardRow,
    LearningRateCurve,
    LearningRatePoint,
    LossCurve,
    Relation,
    RerunNoise,
    Status,
    Verdict,
    Work,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lora_probe.piloting.records import Plan, Result

__all__ = [
    "Analysis",
    "Answer",
    "Comparison",
    "Confidence",
    "Dropped",
    "LeaderboardRow",
    "LearningRateCurve",
    "LearningRatePoint",
    "LossCurve",
    "Relation",
    "RerunNoise",
    "Status",
    "Verdict",
    "Work",
    "analyse",
]


def analyse(plan: Plan, results: Iterable[Result]) -> Analysis:
    """Return what `results` say under `plan`; pure, and the same whatever the order of the results."""
    raise NotImplementedError
