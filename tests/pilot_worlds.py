"""Fake learners: worlds in which the truth about every arm is known, to run a pilot in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

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
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from lora_probe.piloting.records import Result, Trial, Unit

STEPS = 200
RATE = 2e-4


def make_candidate(name: str, **facts: Any) -> Candidate:
    """Return a LoRA candidate; `facts` override what any would have."""
    defaults: dict[str, Any] = {
        "targets": name, "rank": 8, "alpha": 16.0, "paths": (f"model.{name}",), "trainable_parameters": 1000,
    }  # fmt: skip
    return Candidate(name=name, **{**defaults, **facts})


def make_plan(*names: str, protocol: Mapping[str, Any] | None = None, **facts: Any) -> Plan:
    """Return a plan of the base and LoRA candidates of these names."""
    defaults: dict[str, Any] = {
        "model": ModelFacts(model="acme/tiny"),
        "data": DataFacts(source="data.jsonl", train_examples=100, train_tokens=1500),
        "candidates": (Candidate(name="base", arm=Arm.BASE), *map(make_candidate, names)),
        "training": Training(steps=STEPS),
        "protocol": Protocol(
            **{"tuning_items": 64, "test_items": 128, "resamples": 2000, **(protocol or {})}
        ),
    }
    return Plan(**{**defaults, **facts})


@dataclass(frozen=True, kw_only=True)
class World:
    """How arms learn here: losses in nats per token, scatter as standard deviations of the same."""

    losses: Mapping[str, float]
    """At the end, at the best learning rate."""
    number: int = 0
    """Of the draw: another number is another world of the same kind."""
    best_rates: Mapping[str, float] = field(default_factory=dict)
    """Multiples of the grid's centre; 1 for all others."""
    curvature: float = 0.01
    """Loss of a learning rate that is wrong by a factor of 2; its square in the logarithm."""
    base_loss: float = 3.0
    seed_noise: float = 0.0015
    item_noise: float = 0.03
    """Of an arm on one item, the same for all its seeds."""
    run_noise: float = 0.01
    """Of one run on one item."""
    rerun_noise: float = 0.0
    diverging: float = 1e9
    """Multiple of the grid's centre from which on training diverges halfway to the first evaluation."""
    failing: Mapping[Trial, Failed] = field(default_factory=dict)
    """What happens to particular trials, at the step that the failure names."""

    def run(self, unit: Unit, plan: Plan) -> Iterator[Result]:
        """Yield what training a unit measures."""
        for trial in unit.trials:
            failure = self._failure(trial)
            if failure and failure.step < unit.stop:
                yield failure
                continue
            if unit.stop > unit.start:
                yield self._trained(trial, unit)
            for split in unit.splits:
                yield self.evaluate(trial, unit.stop, split, plan)

    def evaluate(self, trial: Trial, step: int, split: Split, plan: Plan) -> Evaluated:
        """Return the losses of a trial after some steps."""
        items = plan.protocol.tuning_items if split is Split.TUNING else plan.protocol.test_items
        tokens = self._draw("tokens", split).integers(20, 200, items)
        level = self._draw("items", split).gamma(4.0, 0.25, items) * self.base_loss
        mean = self.mean(trial, step, plan)
        own = _heavy(self._draw(trial.candidate, split), items) * self.item_noise
        run = (
            _heavy(self._draw(trial.candidate, trial.learning_rate, trial.seed, split), items)
            * self.run_noise
        )
        per_token = level + mean - self.base_loss + (own + run) * learned(step, plan)
        return Evaluated(
            trial=trial,
            step=step,
            split=split,
            nll=tuple((per_token * tokens).tolist()),
            tokens=tuple(tokens.tolist()),
            correct=tuple((tokens // 3).tolist()),
        )

    def mean(self, trial: Trial, step: int, plan: Plan) -> float:
        """Return the loss of a trial over all items that there could be."""
        if trial.candidate not in self.losses:
            return self.base_loss
        off = np.log2(trial.learning_rate / RATE / self.best_rates.get(trial.candidate, 1.0))
        luck = self._draw(trial.candidate, trial.seed, trial.learning_rate).standard_normal()
        final = self.losses[trial.candidate] + self.curvature * off**2 + self.seed_noise * luck
        final += self.rerun_noise * trial.repeat
        return float(self.base_loss + (final - self.base_loss) * learned(step, plan))

    def _trained(self, trial: Trial, unit: Unit) -> Trained:
        steps = unit.stop - unit.start
        return Trained(
            trial=trial,
            start=unit.start,
            losses=tuple(self.base_loss - 0.001 * step for step in range(unit.start, unit.stop)),
            gradient_norms=(1.0,) * steps,
            tokens=100 * steps,
            seconds=0.1 * steps,
        )

    def _failure(self, trial: Trial) -> Failed | None:
        if trial.learning_rate >= self.diverging * RATE:
            return Failed(trial=trial, step=5, failure=Failure.DIVERGED, reason="the loss became nan")
        return self.failing.get(replace(trial, repeat=0))

    def _draw(self, *key: object) -> np.random.Generator:
        return np.random.default_rng([self.number, crc32(repr(key).encode())])


def learned(step: int, plan: Plan) -> float:
    """Return which share of what there is to learn is learned after some steps."""
    return float(np.expm1(-6.0 * step / plan.training.steps) / np.expm1(-6.0))


def run_pilot(plan: Plan, world: World) -> list[Result]:
    """Return everything that a pilot measures in a world, in the order in which it does."""
    results: list[Result] = []
    while units := next_units(plan, results):
        for unit in units:
            results += world.run(unit, plan)
    return results


def trained_steps(results: list[Result]) -> int:
    """Return how many optimizer steps of single trials were taken."""
    return sum(len(each.losses) for each in results if isinstance(each, Trained))


def _heavy(generator: np.random.Generator, items: int) -> NDArray[np.float64]:
    """Return draws with heavy tails (Student's t with 4 degrees of freedom) and standard deviation 1."""
    return np.asarray(generator.standard_t(4, items) / np.sqrt(2.0))
