"""What a pilot that was never run has found: an analysis made by hand, with a row of each sort."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lora_probe.graph import Note
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
from lora_probe.piloting.records import Arm, Failed, Failure
from tests.pilot_samples import (
    BASE_LOSS,
    FINALISTS,
    RATES,
    RUNG,
    SEEDS,
    SETS,
    STEPS,
    loss_of,
    sample_plan,
    trial_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.piloting.records import Plan

__all__ = ["sample_analysis"]


def sample_analysis() -> Analysis:
    """Return what an analysis of such a log says: two arms are equivalent, one is worse, two were dropped."""
    plan = sample_plan()
    pairs = (
        _comparison("all-linear", "mlp", -0.003, 0.004, Relation.EQUIVALENT),
        _comparison("all-linear", "o+down", -0.024, 0.009, Relation.BETTER),
        _comparison("mlp", "o+down", -0.021, 0.012, Relation.UNRESOLVED),
    )
    base = replace(_comparison("all-linear", "base", -0.8, 0.05, Relation.BETTER), in_family=False)
    return Analysis(
        plan=plan,
        complete=True,
        verdict=Verdict(
            answer=Answer.EQUIVALENT,
            best="all-linear",
            recommended="mlp",
            equivalent=("mlp",),
            sentence="Use mlp: it is as good as the best set and trains the fewest parameters.",
            confidence=Confidence.LOW,
            caveats=("The curves of all-linear and mlp cross.",),
        ),
        leaderboard=tuple(_rows(plan)),
        comparisons=(*pairs[:2], base),
        pairs=pairs,
        learning_rates=tuple(_rate_curves()),
        loss_curves=tuple(_loss_curves()),
        dropped=(
            Dropped(
                candidate="qv",
                step=RUNG,
                loss=3.66,
                against="o+down",
                against_loss=3.34,
                standard_error=0.02,
                band=0.04,
                reason="after 20 steps 0.3200 nats behind o+down; noise explains up to 0.0400",
            ),
        ),
        failures=(
            Failed(
                trial=trial_of("attention", 8e-4),
                step=12,
                failure=Failure.DIVERGED,
                reason="the loss became infinite",
            ),
        ),
        dead_adapters={"o+down": ("model.layers.3.mlp.down_proj",)},
        rerun_noise=RerunNoise(
            trial=trial_of("all-linear", 4e-4, repeat=1), step=RUNG, difference=0.0, identical=True
        ),
        work=Work(trial_steps=840, naive_trial_steps=2700, seconds=93.5, tokens=430_080),
        warnings=(Note(code="capacity", message="43,008 parameters are few against 93,000 tokens."),),
    )


def _rows(plan: Plan) -> Iterator[LeaderboardRow]:
    for place, name in enumerate(sorted(FINALISTS, key=lambda each: -SETS[each][4]), start=1):
        yield _row(name, place=place, status=Status.FINALIST, seeds=SEEDS)
    yield _row("attention", place=None, status=Status.FAILED, seeds=(), note="the loss became infinite")
    yield _row("qv", place=None, status=Status.DROPPED, seeds=(), note="0.32 nats a token behind o+down")
    for candidate in plan.candidates:
        if candidate.arm is not Arm.LORA:
            full = candidate.arm is Arm.FULL
            yield LeaderboardRow(
                place=None, candidate=candidate.name, arm=candidate.arm, status=Status.REFERENCE, targets="",
                rank=0, alpha=0.0, trainable_parameters=candidate.trainable_parameters, left_over=None,
                learning_rate=2e-5 if full else None, learning_rate_resolved=True if full else None,
                seeds=SEEDS if full else (0,), test_loss=3.11 if full else BASE_LOSS,
                test_loss_by_seed=(3.1, 3.11, 3.12) if full else (BASE_LOSS,),
                tuning_loss=3.1 if full else BASE_LOSS, steps=STEPS if full else 0,
                gain=0.89 if full else 0.0, difference=-0.09 if full else 0.8, accuracy=None,
                on_pareto_front=True,
            )  # fmt: skip


def _row(
    name: str, *, place: int | None, status: Status, seeds: tuple[int, ...], note: str = ""
) -> LeaderboardRow:
    targets, rank, alpha, size, gain = SETS[name]
    loss = BASE_LOSS - gain if seeds else None
    return LeaderboardRow(
        place=place, candidate=name, arm=Arm.LORA, status=status, targets=targets, rank=rank, alpha=alpha,
        trainable_parameters=size, left_over=43_520 - size, learning_rate=RATES[1],
        learning_rate_resolved=name != "mlp", seeds=seeds, test_loss=loss,
        test_loss_by_seed=tuple(BASE_LOSS - gain + 0.01 * seed for seed in seeds), tuning_loss=4.01 - gain,
        steps=STEPS if seeds else RUNG, gain=gain if seeds else None,
        difference=0.8 - gain if seeds else None, accuracy=None,
        on_pareto_front=name in {"all-linear", "mlp"}, note=note,
    )  # fmt: skip


def _comparison(first: str, second: str, difference: float, half: float, relation: Relation) -> Comparison:
    return Comparison(
        first=first, second=second, difference=difference, low=difference - half, high=difference + half,
        family_low=difference - 1.3 * half, family_high=difference + 1.3 * half, p=0.01, family_p=0.02,
        relation=relation, seeds=SEEDS, items=6, seed_error=half / 4, item_error=half / 3,
    )  # fmt: skip


def _rate_curves() -> Iterator[LearningRateCurve]:
    for name in SETS:
        points = [
            LearningRatePoint(learning_rate=rate, step=RUNG, loss=loss_of(name, RUNG, rate)) for rate in RATES
        ]
        if name == "attention":
            points[2] = replace(points[2], loss=None, failure=Failure.DIVERGED)
        if name == "mlp":
            points.append(
                LearningRatePoint(
                    learning_rate=1.6e-3, step=RUNG, loss=loss_of(name, RUNG, 1.6e-3), extended=True
                )
            )
        yield LearningRateCurve(
            candidate=name, points=tuple(points), chosen=RATES[1], resolved=name != "mlp", note="inside"
        )


def _loss_curves() -> Iterator[LossCurve]:
    for name in SETS:
        for seed in SEEDS if name in FINALISTS else (0,):
            for rate in RATES if seed == 0 else (RATES[1],):
                steps = STEPS if name in FINALISTS and rate == RATES[1] else RUNG
                evaluated = tuple(step for step in (15, RUNG, 30, 45, STEPS) if step <= steps)
                yield LossCurve(
                    trial=trial_of(name, rate, seed),
                    train_steps=tuple(range(1, steps + 1)),
                    train_losses=tuple(loss_of(name, step, rate, seed) + 0.05 for step in range(steps)),
                    tuning_steps=evaluated,
                    tuning_losses=tuple(loss_of(name, step, rate, seed) for step in evaluated),
                    chosen=rate == RATES[1],
                )
