"""A pilot that was never run: a plan, a log and an analysis made by hand, with a row of each sort."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log2
from typing import TYPE_CHECKING

from lora_probe.graph import Note
from lora_probe.piloting.observer import Observer
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
from lora_probe.piloting.protocol import next_units
from lora_probe.piloting.records import (
    Arm,
    Candidate,
    DataFacts,
    Evaluated,
    Failed,
    Failure,
    ModelFacts,
    Plan,
    Protocol,
    Split,
    Trained,
    Training,
    Trial,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lora_probe.piloting.records import Result, Unit

__all__ = ["BASE_LOSS", "play", "sample_analysis", "sample_plan", "sample_results"]

BASE_LOSS = 4.0
STEPS, RUNG = 60, 20
_RATES = (2e-4, 4e-4, 8e-4)
_SEEDS = (0, 1, 2)
_SETS = {  # name: targets, rank, alpha, parameters, what it can learn at best
    "all-linear": ("all-linear", 4, 8.0, 43_520, 0.80),
    "mlp": ("mlp", 7, 14.0, 43_008, 0.78),
    "attention": ("attention", 13, 26.0, 42_432, 0.52),
    "qv": ("qv", 24, 48.0, 43_008, 0.40),
    "o+down": ("attention.o+mlp.down", 14, 28.0, 43_008, 0.77),
}
_FINALISTS = ("all-linear", "mlp", "o+down")


def sample_plan() -> Plan:
    """Return a plan of five sets at equal parameters, the base, and full fine-tuning."""
    sets = tuple(
        Candidate(
            name=name,
            targets=targets,
            rank=rank,
            alpha=alpha,
            paths=(f"model.layers.0.{name}_proj",),
            trainable_parameters=size,
            lora={"r": rank, "lora_alpha": alpha, "target_modules": [f"{name}_proj"]},
        )
        for name, (targets, rank, alpha, size, _) in _SETS.items()
    )
    return Plan(
        model=ModelFacts(
            model="somebody/a-model",
            revision="0123456789abcdef0123456789abcdef01234567",
            architecture="LlamaForCausalLM",
            fingerprint="ab" * 32,
            total_parameters=1_049_728,
        ),
        data=DataFacts(
            source="notes.jsonl",
            fingerprint="cd" * 32,
            train_examples=1171,
            tuning_examples=128,
            test_examples=256,
            train_tokens=93_000,
            truncated_examples=30,
        ),
        candidates=(
            Candidate(name="base", arm=Arm.BASE),
            *sets,
            Candidate(name="full", arm=Arm.FULL, trainable_parameters=1_049_728),
        ),
        training=Training(steps=STEPS, max_length=128),
        protocol=Protocol(learning_rate=_RATES[1], tuning_items=4, test_items=6),
        engine="stacked",
        versions={"torch": "2.13.0", "peft": "0.21.2"},
    )


def sample_results() -> tuple[Result, ...]:
    """Return a log that fits the plan: losses fall along an exponential, and one trial diverges."""
    return tuple(play(sample_plan(), Observer()))


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
                reason="after 20 steps 0.3200 nats per token behind o+down; noise explains up to 0.0400",
            ),
        ),
        failures=(
            Failed(
                trial=_trial("attention", 8e-4),
                step=12,
                failure=Failure.DIVERGED,
                reason="the loss became infinite",
            ),
        ),
        dead_adapters={"o+down": ("model.layers.3.mlp.down_proj",)},
        rerun_noise=RerunNoise(
            trial=_trial("all-linear", 4e-4, repeat=1), step=RUNG, difference=0.0, identical=True
        ),
        work=Work(trial_steps=840, naive_trial_steps=2700, seconds=93.5, tokens=430_080),
        warnings=(Note(code="capacity", message="43,008 parameters are few against 93,000 tokens."),),
    )


def _rows(plan: Plan) -> Iterator[LeaderboardRow]:
    for place, name in enumerate(sorted(_FINALISTS, key=lambda each: -_SETS[each][4]), start=1):
        yield _row(name, place=place, status=Status.FINALIST, seeds=_SEEDS)
    yield _row("attention", place=None, status=Status.FAILED, seeds=(), note="the loss became infinite")
    yield _row("qv", place=None, status=Status.DROPPED, seeds=(), note="0.32 nats a token behind o+down")
    for candidate in plan.candidates:
        if candidate.arm is not Arm.LORA:
            full = candidate.arm is Arm.FULL
            yield LeaderboardRow(
                place=None, candidate=candidate.name, arm=candidate.arm, status=Status.REFERENCE, targets="",
                rank=0, alpha=0.0, trainable_parameters=candidate.trainable_parameters, left_over=None,
                learning_rate=2e-5 if full else None, learning_rate_resolved=True if full else None,
                seeds=_SEEDS if full else (0,), test_loss=3.11 if full else BASE_LOSS,
                test_loss_by_seed=(3.1, 3.11, 3.12) if full else (BASE_LOSS,),
                tuning_loss=3.1 if full else BASE_LOSS, steps=STEPS if full else 0,
                gain=0.89 if full else 0.0, difference=-0.09 if full else 0.8, accuracy=None,
                on_pareto_front=True,
            )  # fmt: skip


def _row(
    name: str, *, place: int | None, status: Status, seeds: tuple[int, ...], note: str = ""
) -> LeaderboardRow:
    targets, rank, alpha, size, gain = _SETS[name]
    loss = BASE_LOSS - gain if seeds else None
    return LeaderboardRow(
        place=place, candidate=name, arm=Arm.LORA, status=status, targets=targets, rank=rank, alpha=alpha,
        trainable_parameters=size, left_over=43_520 - size, learning_rate=_RATES[1],
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
        relation=relation, seeds=_SEEDS, items=6, seed_error=half / 4, item_error=half / 3,
    )  # fmt: skip


def _rate_curves() -> Iterator[LearningRateCurve]:
    for name in _SETS:
        points = [
            LearningRatePoint(learning_rate=rate, step=RUNG, loss=_loss(name, RUNG, rate)) for rate in _RATES
        ]
        if name == "attention":
            points[2] = replace(points[2], loss=None, failure=Failure.DIVERGED)
        if name == "mlp":
            points.append(
                LearningRatePoint(
                    learning_rate=1.6e-3, step=RUNG, loss=_loss(name, RUNG, 1.6e-3), extended=True
                )
            )
        yield LearningRateCurve(
            candidate=name, points=tuple(points), chosen=_RATES[1], resolved=name != "mlp", note="inside"
        )


def _loss_curves() -> Iterator[LossCurve]:
    for name in _SETS:
        for seed in _SEEDS if name in _FINALISTS else (0,):
            for rate in _RATES if seed == 0 else (_RATES[1],):
                steps = STEPS if name in _FINALISTS and rate == _RATES[1] else RUNG
                evaluated = tuple(step for step in (15, RUNG, 30, 45, STEPS) if step <= steps)
                yield LossCurve(
                    trial=_trial(name, rate, seed),
                    train_steps=tuple(range(1, steps + 1)),
                    train_losses=tuple(_loss(name, step, rate, seed) + 0.05 for step in range(steps)),
                    tuning_steps=evaluated,
                    tuning_losses=tuple(_loss(name, step, rate, seed) for step in evaluated),
                    chosen=rate == _RATES[1],
                )


def play(
    plan: Plan, observer: Observer, *, results: Sequence[Result] = (), rounds: int = 100
) -> list[Result]:
    """Do what the protocol asks for without training anything, as a runner would; return all results."""
    found = list(results)
    observer.started(plan, found)
    for _ in range(rounds):
        units = next_units(plan, found)
        for unit in units:
            observer.wave_started(unit, unit.trials, unit.start)
            for step in range(unit.start + 1, unit.stop + 1):
                losses = [_loss(each.candidate, step, each.learning_rate) for each in unit.trials]
                observer.step_done(unit.trials, step, losses, tokens=100 * len(losses), seconds=0.1)
            for result in _measured(unit):
                found.append(result)
                if isinstance(result, Evaluated):
                    observer.evaluated(result)
                elif isinstance(result, Failed):
                    observer.trial_failed(result)
            observer.unit_done(unit)
        if not units:
            break
    observer.finished()
    return found


def _measured(unit: Unit) -> Iterator[Result]:
    for trial in unit.trials:
        if (trial.candidate, trial.learning_rate) == ("attention", 8e-4):
            yield Failed(trial=trial, step=4, failure=Failure.DIVERGED, reason="the loss became infinite")
            continue
        steps = range(unit.start, unit.stop)
        if steps:
            yield Trained(
                trial=trial, start=unit.start, gradient_norms=(1.0,) * len(steps), tokens=100 * len(steps),
                losses=tuple(_loss(trial.candidate, step, trial.learning_rate, trial.seed) for step in steps),
                seconds=0.5,
            )  # fmt: skip
        for split in unit.splits:
            yield _evaluated(trial, unit.stop, split)


def _evaluated(trial: Trial, step: int, split: Split) -> Evaluated:
    items = 4 if split is Split.TUNING else 6
    loss = BASE_LOSS if not step else _loss(trial.candidate, step, trial.learning_rate, trial.seed)
    return Evaluated(
        trial=trial, step=step, split=split,
        nll=tuple(10 * (loss + 0.1 * item) for item in range(items)), tokens=(10,) * items,
    )  # fmt: skip


def _loss(name: str, step: int, rate: float, seed: int = 0) -> float:
    off = abs(log2(rate / _RATES[1]))
    if name not in _SETS:
        return BASE_LOSS - 0.85 * (1 - exp(-step / 15)) + 0.004 * seed
    return BASE_LOSS - _SETS[name][4] * (1 - exp(-step / 15)) * (1 - 0.15 * off) + 0.004 * seed


def _trial(name: str, rate: float, seed: int = 0, repeat: int = 0) -> Trial:
    return Trial(candidate=name, learning_rate=rate, seed=seed, repeat=repeat)
