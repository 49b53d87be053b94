"""Where a pilot's warnings and comparisons begin and end: on either side of each limit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from lora_probe.piloting.analysis import analyse
from lora_probe.piloting.comparisons import _with_first
from lora_probe.piloting.outcome import Relation
from lora_probe.piloting.records import DataFacts, Failed, Failure, Split, Trial
from lora_probe.piloting.statistics import Losses, compare_pairs
from tests.pilot_worlds import RATE, World, make_candidate, make_plan, run_pilot

if TYPE_CHECKING:
    from lora_probe.piloting.outcome import Analysis
    from lora_probe.piloting.records import Plan

APART = {"qv": 2.3, "mlp": 2.0}


def _codes(plan: Plan, world: World) -> set[str]:
    return {note.code for note in analyse(plan, run_pilot(plan, world)).warnings}


@pytest.mark.parametrize(("tokens", "warned"), [(1999, False), (2001, True)])
def test_two_bits_a_parameter_against_one_a_token(tokens: int, warned: bool) -> None:
    """A thousand parameters can hold two thousand tokens, and no more."""
    plan = make_plan(*APART, data=DataFacts(source="data.jsonl", train_tokens=tokens))
    assert ("capacity" in _codes(plan, World(losses=APART))) == warned


@pytest.mark.parametrize(("size", "warned"), [(950, False), (900, True)])
def test_a_tenth_of_the_parameters_is_unequal(size: int, warned: bool) -> None:
    """What whole ranks leave over is no inequality; more than a tenth is."""
    plan = make_plan(candidates=(make_candidate("qv", trainable_parameters=size), make_candidate("mlp")))
    assert ("unequal-parameters" in _codes(plan, World(losses=APART))) == warned


def test_equal_runs_that_differ_by_little_are_no_doubt() -> None:
    """Noise of equal runs counts where the best two arms differ by no more."""
    assert "rerun-noise" not in _codes(make_plan(*APART), World(losses=APART, rerun_noise=1e-4))


@pytest.mark.parametrize(
    ("step", "ahead", "crossed"), [(150, 1.8, True), (70, 1.8, False), (150, 1.9999, False)]
)
def test_curves_cross_late_and_by_more_than_noise(step: int, ahead: float, crossed: bool) -> None:
    """An arm that led early, or by what noise explains, says nothing of a longer run."""
    plan = make_plan(*APART)
    middle = World(losses={"qv": ahead, "mlp": 2.0}, item_noise=0.3)
    found = [
        middle.evaluate(Trial(candidate=name, learning_rate=RATE, seed=0), step, Split.TUNING, plan)
        for name in APART
    ]
    analysis = analyse(plan, [*run_pilot(plan, World(losses=APART)), *found])
    assert ("crossing-curves" in {note.code for note in analysis.warnings}) == crossed


def test_of_alike_sizes_the_one_with_fewer_weights_is_cheapest() -> None:
    """A twentieth more parameters cost the same; then the adapted weights count."""
    many = make_candidate("mlp", trainable_parameters=1000, paths=("a", "b"))
    few = make_candidate("qv", trainable_parameters=1040)
    losses = {"mlp": 2.0, "qv": 2.0002}
    plan = make_plan(candidates=(many, few), protocol={"margin": 0.1})
    assert analyse(plan, run_pilot(plan, World(losses=losses))).verdict.recommended == "qv"
    plan = replace(plan, candidates=(many, replace(few, trainable_parameters=1060)))
    assert analyse(plan, run_pilot(plan, World(losses=losses))).verdict.recommended == "mlp"


def _with_a_crash(**of: int) -> Analysis:
    plan = make_plan(*APART)
    trial = Trial(candidate="mlp", learning_rate=RATE, seed=of.get("seed", 0), repeat=of.get("repeat", 0))
    crash = Failed(trial=trial, step=150, failure=Failure.CRASHED, reason="the worker was killed")
    if trial.repeat:
        kept = [each for each in run_pilot(plan, World(losses=APART)) if not each.trial.repeat]
        return analyse(plan, [*kept, crash])
    return analyse(plan, run_pilot(plan, World(losses=APART, curvature=0.05, failing={trial: crash})))


def test_of_two_arms_one_that_lost_a_seed_is_compared_by_the_others() -> None:
    """Where only one arm has every seed there would be nothing left to compare it with."""
    analysis = _with_a_crash(seed=2)
    assert [each.seeds for each in analysis.pairs] == [(0, 1)]


def test_a_failed_repetition_is_no_fault_of_its_arm() -> None:
    """It says nothing of the learning rate, of a seed, or in the row."""
    analysis = _with_a_crash(repeat=1)
    row = next(row for row in analysis.leaderboard if row.candidate == "mlp")
    assert (row.note, len(row.seeds)) == ("", 3)
    assert len(analysis.failures) == 1


def _losses(*means: float) -> Losses:
    draw = np.random.default_rng(0)
    nll = {
        str(place): [tuple(10 * (mean + draw.normal(0, 0.1, 200)))] * 3 for place, mean in enumerate(means)
    }
    return Losses(seeds=(0, 1, 2), tokens=(10,) * 200, nll=nll)


def test_intervals_of_a_family_are_as_wide_as_holm_s_steps() -> None:
    """Of three pairs, the first is held against a third of the error, the last to fail against all of it."""
    pairs = compare_pairs(_losses(1.0, 1.0, 3.0), margin=0.0)
    alone = {(each.first, each.second): each.high - each.low for each in pairs}
    family = {(each.first, each.second): each.family_high - each.family_low for each in pairs}
    assert family["0", "1"] == pytest.approx(alone["0", "1"])
    assert family["0", "2"] / alone["0", "2"] > family["1", "2"] / alone["1", "2"] > 1.05


def test_a_pair_seen_from_its_other_side() -> None:
    """Differences and both intervals turn their signs and change their ends."""
    pair = replace(compare_pairs(_losses(1.0, 1.05), margin=0.0)[0], family_low=-0.5, family_high=-0.01)
    turned = _with_first(pair, "1")
    assert (turned.first, turned.second) == ("1", "0")
    assert (turned.difference, turned.low, turned.high) == (-pair.difference, -pair.high, -pair.low)
    assert (turned.family_low, turned.family_high) == (0.01, 0.5)
    assert {pair.relation, turned.relation} == {Relation.BETTER, Relation.WORSE}
    assert _with_first(turned, "0") == pair
