"""What a pilot found: the records of an analysis. Plain values; rounding is left to whoever shows them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from lora_probe.encoding import encoded
from lora_probe.frames import frame_of_records

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from lora_probe.graph import Note
    from lora_probe.piloting.records import Arm, Failed, Failure, Plan, Trial

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
]


class Status(str, Enum):
    """How far an arm came."""

    FINALIST = "finalist"
    """Trained to the end with every seed."""
    RUNNING = "running"
    """Neither dropped nor at the end yet."""
    DROPPED = "dropped"
    """Halving took it out."""
    FAILED = "failed"
    """It failed at every learning rate, or at the chosen one with every seed."""
    REFERENCE = "reference"
    """The base, or full fine-tuning: shown beside the candidates, never recommended."""

    __str__ = str.__str__


class Relation(str, Enum):
    """What the interval of a difference says of the first arm, seen from the second."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    """The whole interval lies within the margin."""
    UNRESOLVED = "unresolved"

    __str__ = str.__str__


class Answer(str, Enum):
    """What a pilot as a whole says."""

    BETTER = "better"
    """One arm is better than every other finalist."""
    EQUIVALENT = "equivalent"
    """The best arms differ by less than the margin: the cheapest of them is recommended."""
    UNRESOLVED = "unresolved"
    """The pilot cannot tell; more seeds, items or steps could."""

    __str__ = str.__str__


class Confidence(str, Enum):
    """Whether something makes the answer doubtful; `Verdict.caveats` say what."""

    USUAL = "usual"
    LOW = "low"

    __str__ = str.__str__


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What separates two arms on the test part, in nats per token: below 0 where the first is better."""

    first: str
    second: str
    difference: float
    low: float
    high: float
    """The interval of this comparison alone, at the plan's confidence."""
    family_low: float
    family_high: float
    """The interval that holds for all comparisons of candidates at once: what `relation` is read off."""
    p: float
    """Two-sided, against no difference, for this comparison alone."""
    family_p: float
    """The same after Holm's correction for all pairs of candidates."""
    relation: Relation
    seeds: tuple[int, ...]
    """Seeds that both arms have."""
    items: int
    seed_error: float | None
    """Standard error that the choice of seeds leaves; None with fewer than three seeds: not estimated."""
    item_error: float
    """Standard error that the choice of evaluation items leaves."""
    in_family: bool = True
    """False for comparisons with the base and with full fine-tuning, which answer another question."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaderboardRow:
    """One arm."""

    place: int | None
    """1 for the best; None for arms without a result on the test part, and for references."""
    candidate: str
    arm: Arm
    status: Status
    targets: str
    rank: int
    alpha: float
    trainable_parameters: int
    left_over: int | None
    """Elements of the common budget that the arm's rank leaves; None where ranks are equal."""
    learning_rate: float | None
    """The chosen one; None before the choice, and for the base."""
    learning_rate_resolved: bool | None
    seeds: tuple[int, ...]
    """Seeds with a result on the test part."""
    test_loss: float | None
    """Nats per token, mean over seeds."""
    test_loss_by_seed: tuple[float, ...]
    tuning_loss: float | None
    """Nats per token at the last step that was evaluated, mean over the seeds that came that far."""
    steps: int
    """Steps of its trial that came furthest."""
    gain: float | None
    """Nats per token that it is better than the base on the test part."""
    difference: float | None
    """Nats per token that it is worse than the best arm on the test part; 0 for that arm."""
    accuracy: float | None
    """Share of labelled tokens (or classes) predicted rightly on the test part: secondary, never decides."""
    on_pareto_front: bool
    """Whether no arm with a result has fewer parameters and a lower test loss."""
    note: str = ""
    """Why it was dropped or failed, or what is to be known about the row."""
    retention_loss: float | None = None
    """Nats per token on the retention text, mean over seeds; None where none was given: never decides."""
    forgotten: float | None = None
    """Nats per token that it is worse than the base on that text; below 0 where training helped there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningRatePoint:
    """One learning rate of one arm, with the seed of the search."""

    learning_rate: float
    step: int
    """Where `loss` was measured: the first rung, which all rates of an arm reach."""
    loss: float | None
    """Nats per token on the tuning part; None where the trial failed before."""
    failure: Failure | None = None
    """Also where it failed later on."""
    extended: bool = False
    """Whether it lies beyond the grid that was planned."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningRateCurve:
    """The search for the learning rate of one arm, on the tuning part."""

    candidate: str
    points: tuple[LearningRatePoint, ...]
    """By rising learning rate."""
    chosen: float | None
    resolved: bool
    note: str
    """Why it counts as resolved, or as not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LossCurve:
    """How one trial learned."""

    trial: Trial
    train_steps: tuple[int, ...]
    """Steps behind the trial when each of `train_losses` was measured: 1, 2, ..."""
    train_losses: tuple[float, ...]
    """Nats per trained token of each step."""
    tuning_steps: tuple[int, ...]
    tuning_losses: tuple[float, ...]
    chosen: bool
    """Whether it ran at the learning rate that was chosen for its arm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dropped:
    """An arm that halving took out."""

    candidate: str
    step: int
    """The rung."""
    loss: float
    """Its own on the tuning part, nats per token, at its best learning rate."""
    against: str
    """The best arm at that rung."""
    against_loss: float
    standard_error: float
    """Of the paired difference of both over the items."""
    band: float
    """The difference that it would have been kept at, in nats per token."""
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RerunNoise:
    """How much two equal runs differ."""

    trial: Trial
    step: int
    difference: float
    """Absolute difference of both losses on the tuning part, nats per token."""
    identical: bool
    """Whether every item's loss is equal to the bit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What the protocol spent, against training every arm at every learning rate with every seed."""

    trial_steps: int
    naive_trial_steps: int
    seconds: float
    """Wall-clock time of all passes that are in the log."""
    tokens: int
    """Tokens trained on, over all trials."""

    @property
    def ratio(self) -> float | None:
        """How many times less was trained; None before the first step."""
        return self.naive_trial_steps / self.trial_steps if self.trial_steps else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The answer, for people."""

    answer: Answer
    best: str | None
    """The arm with the lowest loss on the test part; None before there is one."""
    recommended: str | None
    """What to use: the best arm, or the cheapest of those that are equivalent to it."""
    equivalent: tuple[str, ...]
    """Arms that are equivalent to the best one, from few parameters to many."""
    sentence: str
    confidence: Confidence
    caveats: tuple[str, ...]
    """What to weigh before following it, one sentence each: doubts, and what is forgotten for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Analysis:
    """Everything that a pilot's results say under its plan."""

    plan: Plan
    complete: bool
    """Whether nothing is left to be trained."""
    verdict: Verdict
    leaderboard: tuple[LeaderboardRow, ...]
    """Best first, then what was dropped or failed, references last."""
    comparisons: tuple[Comparison, ...]
    """The best arm (always `first`) against each other finalist, then the base and full fine-tuning."""
    pairs: tuple[Comparison, ...]
    """Every pair of finalists, once: the family that Holm's correction covers."""
    learning_rates: tuple[LearningRateCurve, ...]
    loss_curves: tuple[LossCurve, ...]
    dropped: tuple[Dropped, ...]
    failures: tuple[Failed, ...]
    dead_adapters: Mapping[str, tuple[str, ...]]
    """By candidate: paths of adapters whose gradient was missing or exactly zero."""
    rerun_noise: RerunNoise | None
    work: Work
    warnings: tuple[Note, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the analysis as JSON types; nothing is rounded."""
        document: dict[str, Any] = encoded(self)
        document["work"]["ratio"] = self.work.ratio
        return document

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the analysis as one JSON document in ASCII."""
        return json.dumps(self.to_dict(), indent=indent)

    def to_frame(self) -> pd.DataFrame:
        """Return one line an arm: the fields of :class:`LeaderboardRow`."""
        return frame_of_records(LeaderboardRow, self.leaderboard)

    def comparisons_to_frame(self) -> pd.DataFrame:
        """Return one line a comparison with the best arm: the fields of :class:`Comparison`."""
        return frame_of_records(Comparison, self.comparisons)
