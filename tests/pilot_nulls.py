"""Losses drawn where the truth is known: what a verdict is held against, thousands of times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np

from lora_probe.piloting.outcome import Relation
from lora_probe.piloting.statistics import Losses, compare_pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.random import Generator
    from numpy.typing import NDArray

    from lora_probe.piloting.outcome import Comparison

__all__ = ["Nature", "Tally", "natures", "tally"]

RATES_TRIED = 3
"""Learning rates of which each arm kept its luckiest, with the first seed."""


@dataclass(frozen=True, kw_only=True)
class Nature:
    """How losses of arms scatter, in nats per token."""

    effects: tuple[float, ...] = (0.0, 0.0, 0.0)
    """Of each arm; lower is better."""
    seeds: int = 3
    items: int = 128
    seed_scatter: tuple[float, ...] = (0.01,)
    """Standard deviation over seeds, of each arm in turn."""
    item_scatter: float = 0.1
    """Of an arm on one item: what makes one arm better here and another there."""
    run_scatter: float = 0.05
    """Of one run on one item."""
    tail: float = 3.0
    """Degrees of freedom of Student's t, from which items are drawn: at 3, extremes are frequent."""

    def draw(self, generator: Generator) -> Losses:
        """Return losses of arms that were chosen as a pilot chooses them: learning rates by luck."""
        arms = len(self.effects)
        scatter = np.resize(self.seed_scatter, arms)[:, None]
        luck = generator.standard_normal((arms, self.seeds))
        luck[:, 0] = generator.standard_normal((arms, RATES_TRIED)).min(axis=1)
        tokens = generator.integers(10, 200, self.items)
        per_token = (
            2.0
            + np.asarray(self.effects)[:, None, None]
            + (scatter * luck)[:, :, None]
            + generator.gamma(2.0, 0.5, self.items)
            + self.item_scatter * self._heavy(generator, (arms, 1, self.items))
            + self.run_scatter * self._heavy(generator, (arms, self.seeds, self.items))
        )  # (arms, seeds, items)
        return Losses(
            seeds=tuple(range(self.seeds)),
            tokens=tuple(tokens.tolist()),
            nll={f"arm {place}": each.tolist() for place, each in enumerate(per_token * tokens)},
        )

    @property
    def standard_error(self) -> float:
        """Of the difference of two arms of the first kind, with items of equal length."""
        of_seeds = 2 * self.seed_scatter[0] ** 2 / self.seeds
        of_items = 2 * (self.item_scatter**2 + self.run_scatter**2 / self.seeds) / self.items
        return float(np.sqrt(of_seeds + of_items))

    def _heavy(self, generator: Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
        return np.asarray(generator.standard_t(self.tail, shape) / np.sqrt(self.tail / (self.tail - 2)))


@dataclass(kw_only=True)
class Tally:
    """How often something was said of a number of comparisons of all arms."""

    drawn: int = 0
    any_false_better: int = 0
    """Some pair was told apart that is equal, or the wrong way round."""
    sole_better: int = 0
    """The arm with the lowest loss was called better than every other."""
    right_sole_better: int = 0
    any_false_equivalent: int = 0
    """Some pair was called equivalent that differs by the margin or more."""
    all_equivalent: int = 0
    missed: int = 0
    """Intervals of single pairs that left out the truth."""
    pairs: int = 0


def tally(nature: Nature, *, draws: int, margin: float = 1e-9, resamples: int = 2000, seed: int = 0) -> Tally:
    """Return what is said of `draws` worlds of one nature."""
    # statsmodels collects garbage with every correction, which would take nine tenths of the time here.
    with patch("gc.collect"):
        return _tally(nature, draws=draws, margin=margin, resamples=resamples, seed=seed)


def _tally(nature: Nature, *, draws: int, margin: float, resamples: int, seed: int) -> Tally:
    found = Tally(drawn=draws)
    generator = np.random.default_rng(seed)
    for _ in range(draws):
        losses = nature.draw(generator)
        pairs = compare_pairs(losses, margin=margin, resamples=resamples)
        truth = [_truth(nature, pair) for pair in pairs]
        found.any_false_better += any(_is_false(pair, true) for pair, true in zip(pairs, truth, strict=True))
        best = min(losses.nll, key=lambda name: np.sum(losses.nll[name]))
        if all(_beats(pair, best) for pair in pairs if best in (pair.first, pair.second)):
            found.sole_better += 1
            found.right_sole_better += nature.effects[int(best.split()[1])] == min(nature.effects)
        equivalent = [pair.relation is Relation.EQUIVALENT for pair in pairs]
        found.any_false_equivalent += any(
            same and abs(true) >= margin for same, true in zip(equivalent, truth, strict=True)
        )
        found.all_equivalent += all(equivalent)
        found.missed += sum(
            not pair.low <= true <= pair.high for pair, true in zip(pairs, truth, strict=True)
        )
        found.pairs += len(pairs)
    return found


def _truth(nature: Nature, pair: Comparison) -> float:
    first, second = (nature.effects[int(name.split()[1])] for name in (pair.first, pair.second))
    return first - second


def _is_false(pair: Comparison, truth: float) -> bool:
    said = {Relation.BETTER: -1, Relation.WORSE: 1}.get(pair.relation, 0)
    return said != 0 and said != np.sign(truth)


def _beats(pair: Comparison, best: str) -> bool:
    return pair.relation is (Relation.BETTER if pair.first == best else Relation.WORSE)


def natures() -> Iterator[tuple[str, Nature]]:
    """Yield worlds in which no arm is better than another, by what their scatter is made of."""
    for arms in (2, 3, 5):
        none = (0.0,) * arms
        yield f"items, {arms} arms", Nature(effects=none, seed_scatter=(0.0005,))
        yield f"both, {arms} arms", Nature(effects=none)
        yield f"seeds, {arms} arms", Nature(effects=none, seed_scatter=(0.2,))
        yield f"unequal seeds, {arms} arms", Nature(effects=none, seed_scatter=(0.2, 0.1))
    yield "runs, 3 arms", Nature(item_scatter=0.01, run_scatter=0.2, seed_scatter=(0.002,))
    yield "five seeds, 3 arms", Nature(seeds=5, seed_scatter=(0.03,))
    yield "few items, 3 arms", Nature(items=24)
