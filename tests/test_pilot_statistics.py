"""Intervals that hold what they promise: in exact cases, and over thousands of draws of a known truth."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from lora_probe.piloting.outcome import Comparison, Relation
from lora_probe.piloting.records import Evaluated, Split, Trial
from lora_probe.piloting.statistics import Losses, compare_pairs, paired_difference
from tests.pilot_nulls import Nature, natures, tally

NATURES = dict(natures())
FAST = 200
LONG = 2000


def _losses(nll: np.ndarray, tokens: tuple[int, ...] | None = None) -> Losses:
    """Return (arms, seeds, items) as losses; every item one token long by default."""
    return Losses(
        seeds=tuple(range(nll.shape[1])),
        tokens=tokens or (1,) * nll.shape[2],
        nll={name: each.tolist() for name, each in zip("abcdef", nll, strict=False)},
    )


def _at_most(count: int, draws: int, share: float) -> bool:
    """Return whether a count is compatible with this share: no more than chance brings once in 2000 times."""
    return bool(stats.binom.sf(count - 1, draws, share) > 0.0005)


def test_only_items_scatter() -> None:
    """Where all seeds agree, the interval is Student's for the mean over items."""
    generator = np.random.default_rng(0)
    item = generator.standard_normal((2, 1, 400)) * 0.1
    (pair,) = compare_pairs(_losses(np.repeat(item, 3, axis=1)), margin=0.0)
    gaps = item[0, 0] - item[1, 0]
    expected = stats.t.interval(0.95, 399, gaps.mean(), stats.sem(gaps))
    assert pair.difference == pytest.approx(gaps.mean())
    assert (pair.low, pair.high) == pytest.approx(expected, abs=0.05 * stats.sem(gaps))
    assert pair.seed_error == pytest.approx(0.0, abs=1e-12)


def test_only_seeds_scatter() -> None:
    """Where all items agree, the interval of two arms is the paired t-test's, on two degrees of freedom."""
    by_seed = np.array([[0.1, 0.4, 0.2], [0.9, 0.7, 0.8]])
    (pair,) = compare_pairs(_losses(np.repeat(by_seed[:, :, None], 50, axis=2)), margin=0.0)
    test = stats.ttest_rel(*by_seed)
    assert (pair.low, pair.high) == pytest.approx(tuple(test.confidence_interval(0.95)), rel=0.02)
    assert pair.p == pytest.approx(test.pvalue, rel=0.05)
    assert pair.seed_error == pytest.approx(stats.sem(by_seed[0] - by_seed[1]))


def test_all_arms_tell_how_seeds_scatter() -> None:
    """With more arms the scatter over seeds is pooled, but never below the pair's own."""
    by_seed = np.array([[0.0, 0.1, 0.2], [0.3, 0.1, 0.2], [0.5, 0.1, 0.6], [0.2, 0.2, 0.1]])
    pairs = compare_pairs(_losses(np.repeat(by_seed[:, :, None], 50, axis=2)), margin=0.0)
    residual = by_seed - by_seed.mean(0) - by_seed.mean(1, keepdims=True) + by_seed.mean()
    pooled = np.sqrt(2 * (residual**2).sum() / 6 / 3)
    names = "abcd"
    for pair in pairs:
        own = stats.sem(by_seed[names.index(pair.first)] - by_seed[names.index(pair.second)])
        assert pair.seed_error == pytest.approx(max(own, pooled))
        half = (pair.high - pair.low) / 2
        assert half == pytest.approx(stats.t.ppf(0.975, 6) * max(own, pooled), rel=0.02)


def test_long_items_count_by_their_tokens() -> None:
    """The difference is that of all nats over all tokens, not the mean of the items' own."""
    nll = np.array([[[10.0, 1.0, 3.0]], [[0.0, 1.0, 1.0]]])
    (pair,) = compare_pairs(_losses(nll, tokens=(100, 10, 10)), margin=0.0)
    assert pair.difference == pytest.approx(12 / 120)


def test_families_are_corrected_by_holm() -> None:
    """Corrected p-values are statsmodels', and intervals are wider the more comparisons are open."""
    generator = np.random.default_rng(1)
    effects = np.array([0.0, 0.1, 0.5])[:, None, None]
    nll = effects + generator.standard_normal((3, 3, 200)) * 0.3
    pairs = compare_pairs(_losses(nll), margin=0.0)
    _, expected, _, _ = multipletests([pair.p for pair in pairs], method="holm")
    assert [pair.family_p for pair in pairs] == pytest.approx(list(expected))
    for pair in pairs:
        assert pair.family_low <= pair.low < pair.high <= pair.family_high
    by_p = sorted(pairs, key=lambda pair: pair.p)
    widths = [(pair.family_high - pair.family_low) / (pair.high - pair.low) for pair in by_p]
    assert all(first >= second - 0.02 for first, second in pairwise(widths))


def _seen_from_the_other(pair: Comparison) -> tuple[float, ...]:
    return -pair.difference, -pair.high, -pair.low, -pair.family_high, -pair.family_low, pair.p


def test_the_order_of_two_arms_only_turns_the_sign() -> None:
    """Comparing b with a says what comparing a with b does, seen from the other side."""
    generator = np.random.default_rng(2)
    nll = np.array([0.0, 0.04])[:, None, None] + generator.standard_normal((2, 3, 100)) * 0.1
    (there,) = compare_pairs(_losses(nll), margin=0.0)
    (back,) = compare_pairs(_losses(nll[::-1]), margin=0.0)
    width = there.high - there.low
    assert _seen_from_the_other(back) == pytest.approx(
        (there.difference, there.low, there.high, there.family_low, there.family_high, there.p),
        abs=0.03 * width,
    )
    assert {there.relation, back.relation} == {Relation.BETTER, Relation.WORSE}


def test_the_same_losses_give_the_same_interval() -> None:
    """Resampling is seeded: an analysis can be repeated to the bit."""
    losses = Nature().draw(np.random.default_rng(3))
    assert compare_pairs(losses, margin=0.01) == compare_pairs(losses, margin=0.01)


def test_few_seeds_say_nothing_of_seeds() -> None:
    """With two seeds the interval covers the choice of items alone, and no error of seeds is given."""
    losses = Nature(seeds=2, seed_scatter=(1.0,)).draw(np.random.default_rng(4))
    for pair in compare_pairs(losses, margin=0.01):
        assert pair.seed_error is None
        assert (pair.high - pair.low) / 2 == pytest.approx(1.96 * pair.item_error, rel=0.1)


def test_many_items_are_resampled_in_pieces() -> None:
    """A test part that would not fit into memory at once gives the interval that theory expects."""
    gaps = np.random.default_rng(5).standard_normal(3000) * 0.1
    nll = np.stack([np.stack([gaps]), np.zeros((1, 3000))])
    (pair,) = compare_pairs(_losses(nll), margin=0.0, resamples=4000)
    assert (pair.high - pair.low) / 2 == pytest.approx(1.96 * stats.sem(gaps), rel=0.05)


def test_losses_of_another_shape_are_refused() -> None:
    """Losses that do not fit their seeds and items, or a single item, are a mistake of the caller."""
    with pytest.raises(ValueError, match="at least 2 items"):
        compare_pairs(_losses(np.zeros((2, 3, 1))), margin=0.0)
    with pytest.raises(ValueError, match="shape"):
        compare_pairs(Losses(seeds=(0,), tokens=(1, 1), nll={"a": [[1.0]], "b": [[1.0]]}), margin=0.0)


def test_the_error_of_a_paired_difference() -> None:
    """The standard error of two runs on the same items is that of their gaps, weighted by tokens."""
    generator = np.random.default_rng(6)
    trial = Trial(candidate="a", learning_rate=1e-4, seed=0)
    tokens = generator.integers(10, 100, 300)
    reached = []
    for _ in range(400):
        gaps = tokens * (0.1 + 0.2 * generator.standard_normal(300))
        runs = [
            Evaluated(trial=trial, step=1, split=Split.TUNING, nll=tuple(nll), tokens=tuple(tokens.tolist()))
            for nll in (gaps.tolist(), [0.0] * 300)
        ]
        reached.append(paired_difference(*runs))
    differences, errors = np.array(reached).T
    assert differences.mean() == pytest.approx(0.1, abs=0.003)
    assert errors.mean() == pytest.approx(differences.std(), rel=0.1)
    with pytest.raises(ValueError, match="different items"):
        paired_difference(runs[0], replace(runs[1], tokens=tuple(tokens.tolist()[::-1])))


@pytest.mark.parametrize("kind", NATURES)
def test_equal_arms_are_hardly_ever_called_better(kind: str) -> None:
    """With nothing true, any pair is told apart in no more than one comparison of 20, whatever scatters."""
    found = tally(NATURES[kind], draws=FAST)
    assert _at_most(found.any_false_better, FAST, 0.05)
    assert _at_most(found.missed, found.pairs, 0.06)


@pytest.mark.planted
@pytest.mark.parametrize("kind", NATURES)
def test_the_rate_of_false_claims_over_two_thousand_comparisons(kind: str) -> None:
    """With nothing true, false claims stay at or under 5 in 100: of any pair, and so of a sole winner."""
    found = tally(NATURES[kind], draws=LONG)
    assert found.sole_better <= found.any_false_better <= 0.05 * LONG


@pytest.mark.parametrize("scatter", [0.0005, 0.01, 0.2])
def test_equal_arms_beside_a_better_one(scatter: float) -> None:
    """A true winner does not pay for false claims among the others."""
    nature = Nature(seed_scatter=(scatter,))
    nature = replace(nature, effects=(-6 * nature.standard_error, 0.0, 0.0))
    found = tally(nature, draws=2 * FAST)
    assert _at_most(found.any_false_better, 2 * FAST, 0.05)


@pytest.mark.parametrize(
    ("scatter", "seeds", "errors", "share"),
    [
        (0.0005, 3, 3, 0.6),
        (0.01, 3, 3, 0.5),
        (0.01, 5, 3, 0.6),
        (0.2, 5, 3, 0.55),
        (0.2, 3, 3, 0.35),
        (0.2, 3, 8, 0.9),
        (0.01, 3, 5, 0.85),
    ],
)
def test_true_differences_are_found(scatter: float, seeds: int, errors: float, share: float) -> None:
    """Three standard errors are mostly seen where items scatter most; three seeds alone need more."""
    nature = Nature(effects=(0.0, 0.0), seeds=seeds, seed_scatter=(scatter,))
    nature = replace(nature, effects=(-errors * nature.standard_error, 0.0))
    found = tally(nature, draws=FAST)
    assert found.right_sole_better >= share * FAST
    assert found.any_false_better == 0


@pytest.mark.parametrize("scatter", [0.0005, 0.01, 0.2])
@pytest.mark.parametrize("errors", [3, 6])
def test_arms_that_differ_by_the_margin_are_hardly_ever_called_equivalent(
    scatter: float, errors: float
) -> None:
    """A difference as large as the margin passes for none in no more than one comparison of 20."""
    nature = Nature(seed_scatter=(scatter,))
    margin = errors * nature.standard_error
    found = tally(replace(nature, effects=(0.0, 0.0, margin)), draws=2 * FAST, margin=margin)
    assert _at_most(found.any_false_equivalent, 2 * FAST, 0.05)


def test_equal_arms_are_called_equivalent_where_the_data_suffice() -> None:
    """A margin of eight standard errors is enough to see that nothing matters."""
    nature = Nature()
    found = tally(nature, draws=FAST, margin=8 * nature.standard_error)
    assert found.all_equivalent >= 0.9 * FAST
