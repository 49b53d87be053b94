"""A pilot that was never run: a plan, and a log as a runner would write it, with losses from a formula."""

from __future__ import annotations

from math import exp, log2
from typing import TYPE_CHECKING

from lora_probe.piloting.observer import Observer
from lora_probe.piloting.protocol import next_units
from lora_probe.piloting.records import (
    Arm,
    Candidate,
    DataFacts,
    Evaluated,
    Failed,
    Failure,
    ModelFacts,
    Split,
    Trained,
    Training,
    Trial,
)
from tests.pilot_worlds import make_candidate, make_plan

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lora_probe.piloting.records import Plan, Result, Unit

__all__ = [
    "BASE_LOSS",
    "FINALISTS",
    "RATES",
    "RUNG",
    "SEEDS",
    "SETS",
    "STEPS",
    "loss_of",
    "play",
    "sample_plan",
    "sample_results",
    "trial_of",
]

BASE_LOSS = 4.0
STEPS, RUNG = 60, 20
RATES = (2e-4, 4e-4, 8e-4)
SEEDS = (0, 1, 2)
SETS = {  # name: targets, rank, alpha, parameters, what it can learn at best
    "all-linear": ("all-linear", 4, 8.0, 43_520, 0.80),
    "mlp": ("mlp", 7, 14.0, 43_008, 0.78),
    "attention": ("attention", 13, 26.0, 42_432, 0.52),
    "qv": ("qv", 24, 48.0, 43_008, 0.40),
    "o+down": ("attention.o+mlp.down", 14, 28.0, 43_008, 0.77),
}
FINALISTS = ("all-linear", "mlp", "o+down")


def sample_plan() -> Plan:
    """Return a plan of five sets at equal parameters, the base, and full fine-tuning."""
    sets = tuple(
        make_candidate(
            name,
            targets=targets,
            rank=rank,
            alpha=alpha,
            paths=(f"model.layers.0.{name}_proj",),
            trainable_parameters=size,
            lora={"r": rank, "lora_alpha": alpha, "target_modules": [f"{name}_proj"]},
        )
        for name, (targets, rank, alpha, size, _) in SETS.items()
    )
    return make_plan(
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
        protocol={"learning_rate": RATES[1], "tuning_items": 4, "test_items": 6, "resamples": 10_000},
        engine="stacked",
        versions={"torch": "2.13.0", "peft": "0.21.2"},
    )


def sample_results() -> tuple[Result, ...]:
    """Return a log that fits the plan: losses fall along an exponential, and one trial diverges."""
    return tuple(play(sample_plan(), Observer()))


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
                losses = [loss_of(each.candidate, step, each.learning_rate) for each in unit.trials]
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
                losses=tuple(loss_of(trial.candidate, step, trial.learning_rate) for step in steps),
                seconds=0.5,
            )  # fmt: skip
        for split in unit.splits:
            yield _evaluated(trial, unit.stop, split)


def _evaluated(trial: Trial, step: int, split: Split) -> Evaluated:
    items = 4 if split is Split.TUNING else 6
    loss = BASE_LOSS if not step else loss_of(trial.candidate, step, trial.learning_rate, trial.seed)
    return Evaluated(
        trial=trial, step=step, split=split,
        nll=tuple(10 * (loss + 0.1 * item) for item in range(items)), tokens=(10,) * items,
    )  # fmt: skip


def loss_of(name: str, step: int, rate: float, seed: int = 0) -> float:
    """Return the loss of an arm after a step, best at the middle learning rate."""
    off = abs(log2(rate / RATES[1]))
    if name not in SETS:
        return BASE_LOSS - 0.85 * (1 - exp(-step / 15)) + 0.004 * seed
    return BASE_LOSS - SETS[name][4] * (1 - exp(-step / 15)) * (1 - 0.15 * off) + 0.004 * seed


def trial_of(name: str, rate: float, seed: int = 0, repeat: int = 0) -> Trial:
    """Return a trial."""
    return Trial(candidate=name, learning_rate=rate, seed=seed, repeat=repeat)
