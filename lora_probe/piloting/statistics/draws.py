"""The two-level bootstrap: how a difference of two arms would scatter with other seeds and other items.

Items are resampled with replacement, each with all its tokens and all arms at once. Seeds are not: three
values resampled scatter by a third less than they should, and no quantile of ten different means reaches
the tails. Their level is drawn from what such a resampling approximates: Student's t of the mean's standard
error. A difference plus both deviations is the Behrens-Fisher distribution, whose intervals hold what they
promise whatever the ratio of the two variances is (Robinson, *Annals of Statistics* 4, 1976).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

__all__ = ["item_deviations", "seed_deviations"]

_SEED = 20240229
"""Of the resampling itself: the same data give the same interval."""
_CHUNK = 2**22
"""Counts that are held at once: 32 MiB."""


def item_deviations(nll: NDArray[float64], tokens: NDArray[float64], resamples: int) -> NDArray[float64]:
    """Return by how much each arm's loss moves with other items: (resamples, arms), nats per token.

    `nll` is (arms, items), `tokens` (items,). What a bootstrap of few items lacks in width is made up for:
    the root of ``n / (n - 1)``, and the quotient of Student's and the normal quantile.
    """
    import numpy as np
    from scipy import stats

    items = tokens.size
    loss = nll.sum(axis=1) / tokens.sum()  # (arms,)
    stacked = np.vstack([nll, tokens])  # (arms + 1, items)
    sums = np.vstack([counts @ stacked.T for counts in _counts(items, resamples)])  # (resamples, arms + 1)
    widened = np.sqrt(items / (items - 1)) * stats.t.ppf(0.975, items - 1) / stats.norm.ppf(0.975)
    deviations: NDArray[float64] = (sums[:, :-1] / sums[:, -1:] - loss) * widened
    return deviations


@lru_cache(maxsize=64)
def seed_deviations(degrees: int, resamples: int) -> NDArray[float64]:
    """Return draws of Student's t with `degrees` degrees of freedom: (resamples,), in standard errors.

    They are its quantiles at equal steps in random order: as far out in the tails as they ought to be.
    """
    import numpy as np
    from scipy import stats

    steps = (np.arange(resamples) + 0.5) / resamples
    draws: NDArray[float64] = np.random.default_rng(_SEED + degrees).permutation(stats.t.ppf(steps, degrees))
    draws.setflags(write=False)
    return draws


def _counts(items: int, resamples: int) -> list[NDArray[float64]]:
    """Return how often each resample holds each item, in pieces of (rows, items)."""
    if items * resamples <= _CHUNK:
        return [_kept_counts(items, resamples)]
    rows = max(1, _CHUNK // items)
    return [
        _drawn_counts(items, min(rows, resamples - start), seed=start) for start in range(0, resamples, rows)
    ]


@lru_cache(maxsize=2)
def _kept_counts(items: int, resamples: int) -> NDArray[float64]:
    """Return counts that are kept for the next time: a leaderboard asks for them again and again."""
    counts = _drawn_counts(items, resamples, seed=0)
    counts.setflags(write=False)
    return counts


def _drawn_counts(items: int, rows: int, *, seed: int) -> NDArray[float64]:
    import numpy as np

    generator = np.random.default_rng((_SEED, seed))
    return generator.multinomial(items, np.full(items, 1 / items), size=rows).astype(np.float64)
