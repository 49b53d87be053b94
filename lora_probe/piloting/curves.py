"""How trials learned, and what was found about learning rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.piloting.learning_rates import planned_rates
from lora_probe.piloting.outcome import LearningRateCurve, LearningRatePoint, LossCurve
from lora_probe.piloting.protocol import rung_steps
from lora_probe.piloting.records import Trial
from lora_probe.piloting.statistics import paired_difference

if TYPE_CHECKING:
    from lora_probe.piloting.ledger import Ledger
    from lora_probe.piloting.protocol import Progress
    from lora_probe.piloting.records import Evaluated, Plan

__all__ = ["crossings", "learning_rate_curves", "loss_curves"]


def loss_curves(progress: Progress, ledger: Ledger) -> tuple[LossCurve, ...]:
    """Return how every trial learned, of which more than its start is known."""
    found = []
    for trial in ledger.trials():
        training: dict[int, float] = {}
        for stretch in ledger.trained(trial):
            training.update(enumerate(stretch.losses, start=stretch.start + 1))
        tuning = ledger.evaluations(trial)
        if training or any(each.step for each in tuning):
            found.append(
                LossCurve(
                    trial=trial,
                    train_steps=tuple(sorted(training)),
                    train_losses=tuple(training[step] for step in sorted(training)),
                    tuning_steps=tuple(each.step for each in tuning),
                    tuning_losses=tuple(each.loss for each in tuning),
                    chosen=progress.chosen.get(trial.candidate) == trial.learning_rate,
                )
            )
    return tuple(found)


def learning_rate_curves(plan: Plan, progress: Progress, ledger: Ledger) -> tuple[LearningRateCurve, ...]:
    """Return the search of every arm, as it stood at the first rung, where all of its rates were measured."""
    step = rung_steps(plan)[0]
    curves = []
    for candidate in plan.candidates:
        search = progress.searches.get(candidate.name)
        if search is None:
            continue
        planned = planned_rates(plan, candidate)
        points = []
        for rate in search.rates:
            trial = Trial(candidate=candidate.name, learning_rate=rate, seed=plan.protocol.seeds[0])
            evaluated, failed = ledger.evaluated(trial, step), ledger.failed(trial)
            points.append(
                LearningRatePoint(
                    learning_rate=rate,
                    step=step,
                    loss=evaluated.loss if evaluated else None,
                    failure=failed.failure if failed else None,
                    extended=rate not in planned,
                )
            )
        chosen = progress.chosen.get(candidate.name)
        unknown = False, "no learning rate has a result"
        resolved, note = progress.resolutions.get(candidate.name, unknown)
        curves.append(
            LearningRateCurve(
                candidate=candidate.name, points=tuple(points), chosen=chosen, resolved=resolved, note=note
            )
        )
    return tuple(curves)


def crossings(
    plan: Plan, progress: Progress, ledger: Ledger, best: str, others: tuple[str, ...]
) -> list[str]:
    """Return which of `others` were ahead of `best` on the tuning part in the second half of training.

    Ahead is what noise does not explain: more than `noise_band` standard errors of the paired difference,
    with the seed of the search.
    """
    seed, half = plan.protocol.seeds[0], plan.training.steps / 2
    ours = _by_step(progress, ledger, best, seed)
    found = []
    for other in others:
        theirs = _by_step(progress, ledger, other, seed)
        for step in sorted(set(ours) & set(theirs)):
            behind, error = paired_difference(ours[step], theirs[step])
            if step >= half and behind > plan.protocol.noise_band * error:
                found.append(other)
                break
    return found


def _by_step(progress: Progress, ledger: Ledger, name: str, seed: int) -> dict[int, Evaluated]:
    trial = Trial(candidate=name, learning_rate=progress.chosen[name], seed=seed)
    return {each.step: each for each in ledger.evaluations(trial)}
