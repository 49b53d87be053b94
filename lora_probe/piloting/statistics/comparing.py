"""All pairs of arms compared at once, so that it does not matter which of them looked best.

The best arm of a pilot is found in the numbers that then speak for it, so comparing it alone with the others
would flatter it. Holm's correction therefore covers every pair of finalists: whichever is picked afterwards,
its claims are among those that were paid for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from lora_probe.piloting.outcome import Comparison, Relation
from lora_probe.piloting.statistics.draws import item_deviations, seed_deviations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy import float64
    from numpy.typing import NDArray

__all__ = ["FEWEST_SEEDS", "Losses", "compare_pairs"]

FEWEST_SEEDS = 3
"""With fewer, seeds say nothing of their own scatter, and intervals cover the choice of items only."""
FEWEST_ITEMS = 2
"""One value has no spread."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Losses:
    """The losses of some arms with the same seeds on the same items."""

    seeds: tuple[int, ...]
    tokens: tuple[int, ...]
    """Labelled tokens of each item."""
    nll: Mapping[str, Sequence[Sequence[float]]]
    """By arm: summed nats of each item, (seeds, items)."""


def compare_pairs(
    losses: Losses,
    *,
    margin: float,
    confidence: float = 0.95,
    resamples: int = 10_000,
    in_family: bool = True,
) -> tuple[Comparison, ...]:
    """Return every pair of arms, in their order, with intervals of its own and of the whole family.

    The difference is that of summed nats over summed tokens, mean over seeds: long items count more, as they
    do in training. How it scatters over items is resampled; how over seeds, is the larger of two estimates:
    that of the pair, and that of all arms together (arms x seeds, interaction), whose degrees of freedom,
    (arms - 1)(seeds - 1), both are read with. The interaction of items and seeds is in both levels, which
    makes intervals a little wider than they need be.

    Family intervals are Holm's: the k-th smallest of m p-values is held against ``(1 - confidence) / (m - k +
    1)``, and so is its interval; all pairs from the first that fails share that one's level (Strassburger &
    Bretz, *Statistics in Medicine* 27, 2008). A pair is equivalent where this interval lies within the
    margin, else better or worse where it leaves out 0 and those before it do.
    """
    import numpy as np

    names = list(losses.nll)
    nll = np.array([losses.nll[name] for name in names], dtype=np.float64)  # (arms, seeds, items)
    tokens = np.array(losses.tokens, dtype=np.float64)  # (items,)
    if nll.shape != (len(names), len(losses.seeds), tokens.size) or tokens.size < FEWEST_ITEMS:
        raise ValueError(
            f"losses of {len(names)} arms, {len(losses.seeds)} seeds and {tokens.size} items "
            f"have shape {nll.shape}; at least {FEWEST_ITEMS} items are needed"
        )
    by_seed = nll.sum(axis=2) / max(1.0, float(tokens.sum()))  # (arms, seeds)
    moved = item_deviations(nll.mean(axis=1), tokens, resamples)  # (resamples, arms)
    scatters = []
    for first, second in combinations(range(len(names)), 2):
        by_items = moved[:, first] - moved[:, second]
        error, degrees = _seed_error(by_seed, first, second)
        by_seeds = 0.0 if error is None else error * seed_deviations(degrees, resamples)
        difference = float((by_seed[first] - by_seed[second]).mean())
        scatters.append(
            _Scatter(
                first=names[first],
                second=names[second],
                difference=difference,
                draws=np.sort(difference + by_items + by_seeds),
                seed_error=error,
                item_error=float(by_items.std()),
            )
        )
    return _family(scatters, losses, margin=margin, confidence=confidence, in_family=in_family)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scatter:
    """The difference of one pair, and where it might lie."""

    first: str
    second: str
    difference: float
    draws: NDArray[float64]
    """Sorted."""
    seed_error: float | None
    item_error: float

    @property
    def p(self) -> float:
        """Twice the share of the draws on the other side of 0; never less than their number can tell."""
        import numpy as np

        below = int(np.searchsorted(self.draws, 0.0, side="right"))
        above = self.draws.size - int(np.searchsorted(self.draws, 0.0, side="left"))
        return min(1.0, 2 * (1 + min(below, above)) / (1 + self.draws.size))

    def interval(self, error: float) -> tuple[float, float]:
        """Return the interval that leaves out the share `error` of the draws, half of it at each end."""
        import numpy as np

        low, high = np.quantile(self.draws, (error / 2, 1 - error / 2))
        return float(low), float(high)


def _seed_error(by_seed: NDArray[float64], first: int, second: int) -> tuple[float | None, int]:
    """Return the standard error that seeds leave a difference, and its degrees of freedom."""
    arms, seeds = by_seed.shape
    if seeds < FEWEST_SEEDS:
        return None, 0
    own = float((by_seed[first] - by_seed[second]).var(ddof=1))
    centred = by_seed - by_seed.mean(axis=0) - by_seed.mean(axis=1, keepdims=True) + by_seed.mean()
    degrees = (arms - 1) * (seeds - 1)
    pooled = 2 * float((centred**2).sum()) / degrees
    return math.sqrt(max(own, pooled) / seeds), degrees


def _family(
    scatters: Sequence[_Scatter], losses: Losses, *, margin: float, confidence: float, in_family: bool
) -> tuple[Comparison, ...]:
    if not scatters:
        return ()
    values, error = [each.p for each in scatters], 1 - confidence
    corrected = _holm(values)
    order = sorted(range(len(values)), key=values.__getitem__)
    rejected = sum(corrected[index] <= error for index in order)
    shares = {index: error / (len(order) - min(place, rejected)) for place, index in enumerate(order)}
    return tuple(
        _comparison(
            each,
            losses,
            own=each.interval(error),
            family=each.interval(shares[index]),
            family_p=corrected[index],
            differs=corrected[index] <= error,
            margin=margin,
            in_family=in_family,
        )
        for index, each in enumerate(scatters)
    )


def _holm(values: list[float]) -> list[float]:
    """Return p-values after Holm's correction, in their order."""
    if len(values) == 1:
        return values  # nothing to correct, and statsmodels takes a second to load
    from statsmodels.stats.multitest import multipletests

    corrected: list[float] = multipletests(values, method="holm")[1].tolist()
    return corrected


def _comparison(
    scatter: _Scatter,
    losses: Losses,
    *,
    own: tuple[float, float],
    family: tuple[float, float],
    family_p: float,
    differs: bool,
    margin: float,
    in_family: bool,
) -> Comparison:
    if -margin <= family[0] and family[1] <= margin:
        relation = Relation.EQUIVALENT
    elif differs:
        relation = Relation.BETTER if scatter.difference < 0 else Relation.WORSE
    else:
        relation = Relation.UNRESOLVED
    return Comparison(
        first=scatter.first,
        second=scatter.second,
        difference=scatter.difference,
        low=own[0],
        high=own[1],
        family_low=family[0],
        family_high=family[1],
        p=scatter.p,
        family_p=family_p,
        relation=relation,
        seeds=losses.seeds,
        items=len(losses.tokens),
        seed_error=scatter.seed_error,
        item_error=scatter.item_error,
        in_family=in_family,
    )
