"""The numbers behind the plots of a pilot. Losses are in the `unit` of a record, sizes are elements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_probe.piloting.outcome import Relation
from lora_probe.piloting.records import Arm
from lora_probe.report.colors import REST, set_color

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lora_probe.piloting.outcome import Analysis, LossCurve
    from lora_probe.piloting.records import Plan

__all__ = [
    "Curve",
    "Forest",
    "ForestRow",
    "LossCurves",
    "Pareto",
    "ParetoPoint",
    "RateCurve",
    "RateCurves",
    "arm_colors",
    "forest",
    "learning_rate_curves",
    "loss_curves",
    "pareto",
]

_MOST_RATES = 7
"""Written on an axis."""
_MOST_POINTS = 25
"""Of a curve of training losses; a whole run is averaged over stretches of steps, the same for every arm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForestRow:
    """How much worse one arm is than the best one: above 0 where it is worse."""

    candidate: str
    difference: float
    low: float
    high: float
    """The interval of this comparison alone."""
    family_low: float
    family_high: float
    """The interval that holds for all comparisons at once; `relation` is read off it."""
    relation: Relation
    """What the arm is, seen from the best one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forest:
    """Paired differences of the finalists from the best arm, on the test part."""

    best: str
    margin: float
    confidence: float
    rows: tuple[ForestRow, ...]
    unit: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One line of losses over steps; `seed` is None where seeds were averaged."""

    candidate: str
    seed: int | None
    steps: tuple[int, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LossCurves:
    """How the arms learned at their chosen learning rates."""

    base: float | None
    """The base's loss on the tuning part."""
    tuning: tuple[Curve, ...]
    """A curve for each arm and seed; all begin at the base's loss, where that is known."""
    training: tuple[Curve, ...]
    """A curve for each arm, averaged over its seeds and over short stretches of steps."""
    dropped: Mapping[str, int]
    """The step at which an arm was taken out."""
    unit: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ParetoPoint:
    """One arm with a result on the test part."""

    candidate: str
    arm: Arm
    trainable_parameters: int
    loss: float
    on_front: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Pareto:
    """Quality against parameters."""

    base: float | None
    """The base's loss on the test part."""
    points: tuple[ParetoPoint, ...]
    """From few parameters to many, without the base."""
    unit: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RateCurve:
    """One arm's search for its learning rate; failed trials are in `failed` only."""

    candidate: str
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    failed: tuple[float, ...]
    chosen: float | None
    resolved: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class RateCurves:
    """Loss on the tuning part against the learning rate, with the seed of the search.

    All were measured after `step`. The better ones went on and were compared again, so that the chosen one
    need not be the best here.
    """

    curves: tuple[RateCurve, ...]
    step: int
    unit: str

    @property
    def marks(self) -> tuple[float, ...]:
        """The learning rates to write on an axis: those that were tried, as far as there is room."""
        rates = (rate for curve in self.curves for rate in (*curve.rates, *curve.failed))
        tried = sorted({float(f"{rate:.3g}") for rate in rates})
        return tuple(tried[:: -(-len(tried) // _MOST_RATES) or 1])


def arm_colors(plan: Plan) -> dict[str, str]:
    """Return one colour an arm, the same in every plot: candidates by their place, references grey."""
    names = [candidate.name for candidate in plan.candidates if candidate.arm is Arm.LORA]
    return dict.fromkeys((candidate.name for candidate in plan.candidates), REST) | {
        name: set_color(place) for place, name in enumerate(names)
    }


def forest(analysis: Analysis) -> Forest | None:
    """Return the differences, None before there are any."""
    rows = tuple(
        ForestRow(
            candidate=each.second,
            difference=0.0 - each.difference,
            low=0.0 - each.high,
            high=0.0 - each.low,
            family_low=0.0 - each.family_high,
            family_high=0.0 - each.family_low,
            relation=_TURNED.get(each.relation, each.relation),
        )
        for each in analysis.comparisons
        if each.in_family
    )
    if not rows:
        return None
    protocol = analysis.plan.protocol
    best = analysis.comparisons[0].first
    return Forest(
        best=best, margin=protocol.margin, confidence=protocol.confidence, rows=rows, unit=_unit(analysis)
    )


_TURNED = {Relation.BETTER: Relation.WORSE, Relation.WORSE: Relation.BETTER}


def loss_curves(analysis: Analysis) -> LossCurves:
    """Return the curves of the chosen learning rates, of first runs only."""
    base = next((row.tuning_loss for row in analysis.leaderboard if row.arm is Arm.BASE), None)
    chosen = [curve for curve in analysis.loss_curves if curve.chosen and not curve.trial.repeat]
    steps = analysis.plan.training.steps
    start = ((0,), (base,)) if base is not None else ((), ())
    return LossCurves(
        base=base,
        tuning=tuple(
            Curve(
                candidate=curve.trial.candidate,
                seed=curve.trial.seed,
                steps=(*start[0], *curve.tuning_steps),
                losses=(*start[1], *curve.tuning_losses),
            )
            for curve in chosen
            if curve.tuning_steps and curve.tuning_steps[-1] > 0
        ),
        training=tuple(
            _averaged(name, [curve for curve in chosen if curve.trial.candidate == name], steps=steps)
            for name in dict.fromkeys(curve.trial.candidate for curve in chosen if curve.train_steps)
        ),
        dropped={each.candidate: each.step for each in analysis.dropped},
        unit=_unit(analysis),
    )


def pareto(analysis: Analysis) -> Pareto:
    """Return each arm's parameters and test loss; unfinished arms have none."""
    measured = [row for row in analysis.leaderboard if row.test_loss is not None]
    points = [
        ParetoPoint(
            candidate=row.candidate,
            arm=row.arm,
            trainable_parameters=row.trainable_parameters,
            loss=row.test_loss,
            on_front=row.on_pareto_front,
        )
        for row in measured
        if row.arm is not Arm.BASE and row.test_loss is not None
    ]
    return Pareto(
        base=next((row.test_loss for row in measured if row.arm is Arm.BASE), None),
        points=tuple(sorted(points, key=lambda point: (point.trainable_parameters, point.loss))),
        unit=_unit(analysis),
    )


def learning_rate_curves(analysis: Analysis) -> RateCurves:
    """Return the search of every arm that has one."""
    curves = []
    for search in analysis.learning_rates:
        measured = [
            (point.learning_rate, point.loss)
            for point in search.points
            if point.loss is not None and point.failure is None
        ]
        curves.append(
            RateCurve(
                candidate=search.candidate,
                rates=tuple(rate for rate, _ in measured),
                losses=tuple(loss for _, loss in measured),
                failed=tuple(point.learning_rate for point in search.points if point.failure is not None),
                chosen=search.chosen,
                resolved=search.resolved,
            )
        )
    return RateCurves(
        curves=tuple(curve for curve in curves if curve.rates or curve.failed),
        step=max((point.step for search in analysis.learning_rates for point in search.points), default=0),
        unit=_unit(analysis),
    )


def _unit(analysis: Analysis) -> str:
    return analysis.plan.data.task.loss_unit


def _averaged(name: str, curves: list[LossCurve], *, steps: int) -> Curve:
    """Return the mean over seeds, step by step, then over stretches of steps."""
    by_step: dict[int, list[float]] = {}
    for curve in curves:
        for step, loss in zip(curve.train_steps, curve.train_losses, strict=True):
            by_step.setdefault(step, []).append(loss)
    means = [(step, sum(losses) / len(losses)) for step, losses in sorted(by_step.items())]
    length = -(-steps // _MOST_POINTS)
    stretches = [means[place : place + length] for place in range(0, len(means), length)]
    return Curve(
        candidate=name,
        seed=None,
        steps=tuple(stretch[-1][0] for stretch in stretches),
        losses=tuple(sum(loss for _, loss in stretch) / len(stretch) for stretch in stretches),
    )
