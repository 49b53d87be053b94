"""What a pilot trains next: rung by rung, whatever was interrupted, in worlds where the truth is known."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_probe.piloting.learning_rates import rates_kept
from lora_probe.piloting.ledger import Ledger
from lora_probe.piloting.protocol import base_trial, next_units, progress, rung_steps
from lora_probe.piloting.records import Arm, Candidate, Evaluated, Failed, Failure, Split, Trained, Trial
from tests.pilot_worlds import RATE, STEPS, World, make_candidate, make_plan, run_pilot, trained_steps

if TYPE_CHECKING:
    from lora_probe.piloting.protocol import Progress
    from lora_probe.piloting.records import Plan, Result

APART = {"qv": 2.3, "attention": 2.2, "mlp": 2.0, "all-linear": 2.1, "o+down": 2.15, "v+o+down": 2.25}
"""Losses of arms that differ by much more than noise; `mlp` is best."""


def _seen(plan: Plan, results: list[Result]) -> Progress:
    return progress(plan, Ledger(results))


def _rates(results: list[Result], candidate: str) -> set[float]:
    """Return the multiples of the grid's centre at which an arm was tried."""
    return {
        round(each.trial.learning_rate / RATE, 6) for each in results if each.trial.candidate == candidate
    }


def _steps_of(results: list[Result], candidate: str) -> int:
    return max(
        each.step for each in results if isinstance(each, Evaluated) and each.trial.candidate == candidate
    )


def test_the_base_and_the_whole_grid_come_first() -> None:
    """A fresh pilot evaluates the base, and trains every arm at every learning rate to the first rung."""
    plan = make_plan("qv", "mlp")
    base, search = next_units(plan, [])
    assert base.trials == (base_trial(plan),)
    assert (base.start, base.stop, base.splits) == (0, 0, (Split.TUNING, Split.TEST))
    assert (search.start, search.stop, search.splits) == (0, rung_steps(plan)[0], (Split.TUNING,))
    assert {(each.candidate, each.learning_rate / RATE, each.seed) for each in search.trials} == {
        (name, factor, 0) for name in ("qv", "mlp") for factor in (0.5, 1.0, 2.0)
    }


def test_the_best_arms_reach_the_end_with_every_seed() -> None:
    """Halving leaves two of six; both are measured on both parts with all seeds at one learning rate."""
    plan = make_plan(*APART)
    results = run_pilot(plan, World(losses=APART))
    seen = _seen(plan, results)
    assert seen.finalists == ("mlp", "all-linear")
    assert {each.candidate for each in seen.dropped} == set(APART) - {"mlp", "all-linear"}
    tested = {each.trial for each in results if isinstance(each, Evaluated) and each.split is Split.TEST}
    assert tested == {base_trial(plan)} | {
        Trial(candidate=name, learning_rate=seen.chosen[name], seed=seed)
        for name in seen.finalists
        for seed in (0, 1, 2)
    }


def test_far_less_is_trained_than_everything() -> None:
    """Arms that lie apart cost five times less than each at every rate with every seed, one after another."""
    for number in range(5):
        results = run_pilot(make_plan(*APART), World(losses=APART, number=number))
        assert len(APART) * 3 * 3 * STEPS >= 5 * trained_steps(results)


def test_halving_keeps_the_best_arm() -> None:
    """Among arms as close as noise, the truly best one is a finalist in at least 95 of 100 worlds."""
    losses = {name: 2.0 + 0.004 * place for place, name in enumerate(APART)}
    kept = [
        "qv" in _seen(plan, run_pilot(plan, World(losses=losses, number=number))).finalists
        for number in range(100)
        for plan in [make_plan(*losses)]
    ]
    assert sum(kept) >= 95


def test_nothing_is_dropped_inside_the_noise_band() -> None:
    """Whatever is dropped lies further behind the best arm than its noise band."""
    losses = {name: 2.0 + 0.01 * place for place, name in enumerate(APART)}
    drops = 0
    for number in range(20):
        plan = make_plan(*losses)
        seen = _seen(plan, run_pilot(plan, World(losses=losses, number=number)))
        assert len(seen.finalists) >= 2
        for each in seen.dropped:
            assert each.loss - each.against_loss > each.band >= 2.0 * each.standard_error > 0
            drops += 1
    assert drops


def test_half_of_an_odd_number_is_the_larger_half() -> None:
    """Of five sets three go on after the first rung, of these two after the second."""
    plan = make_plan(*list(APART)[:5])
    dropped = _seen(plan, run_pilot(plan, World(losses=APART))).dropped
    assert [each.step for each in dropped] == [20, 20, 60]


def test_the_better_half_of_the_rates_goes_on() -> None:
    """The larger half where their number is odd, and after the last rung one."""
    assert rates_kept((3.0, 1.0, 2.0), last=False) == (3.0, 1.0)
    assert rates_kept((3.0, 1.0), last=False) == (3.0,)
    assert rates_kept((3.0, 1.0, 2.0), last=True) == (3.0,)


def test_arms_that_tie_far_behind_the_best_are_dropped() -> None:
    """One arm that is better than five equal ones is not trained to the end with all of these."""
    losses = {name: 2.0 if name == "mlp" else 2.3 for name in APART}
    for number in range(10):
        plan = make_plan(*losses)
        seen = _seen(plan, run_pilot(plan, World(losses=losses, number=number)))
        assert "mlp" in seen.finalists
        assert len(seen.finalists) == 2


def test_known_rerun_noise_widens_the_band() -> None:
    """Where two equal runs differ much, nothing is dropped once that is known."""
    plan = make_plan(*APART)
    quiet = _seen(plan, run_pilot(plan, World(losses=APART)))
    noisy = _seen(plan, run_pilot(plan, World(losses=APART, rerun_noise=2.0)))
    first, second = rung_steps(plan)
    assert {each.step for each in quiet.dropped} == {first, second}
    assert {each.step for each in noisy.dropped} == {first}


@given(seed=st.integers(0, 2**16), cut=st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_the_log_may_end_anywhere_and_come_in_any_order(seed: int, cut: float) -> None:
    """From any part of the log, shuffled and with lines twice, the same pilot comes about."""
    generator = random.Random(seed)  # noqa: S311 - no secret
    losses = {"qv": 2.05, "mlp": 2.0, "attention": 2.004}
    plan = make_plan(*losses)
    world = World(losses=losses, best_rates={"mlp": 4.0}, diverging=8.0)
    whole = run_pilot(plan, world)
    log = whole[: int(cut * len(whole))]
    expected = next_units(plan, log)
    generator.shuffle(log)
    log += generator.choices(log, k=3) if log else []
    assert next_units(plan, log) == expected
    while units := next_units(plan, log):
        for unit in generator.sample(units, len(units)):
            trials = generator.sample(unit.trials, generator.randint(1, len(unit.trials)))
            log += world.run(replace(unit, trials=tuple(trials)), plan)
    assert {str(each) for each in log} == {str(each) for each in whole}


def test_an_evaluation_that_lacks_is_asked_for_alone() -> None:
    """Killed between both parts of the last evaluation, a trial is evaluated and not trained again."""
    plan = make_plan("qv", "mlp")
    whole = run_pilot(plan, World(losses={"qv": 2.1, "mlp": 2.0}))
    lost = next(
        each for each in whole if isinstance(each, Evaluated) and each.split is Split.TEST and each.step
    )
    (unit,) = next_units(plan, [each for each in whole if each is not lost])
    assert (unit.trials, unit.start, unit.stop, unit.splits) == ((lost.trial,), STEPS, STEPS, (Split.TEST,))


@pytest.mark.parametrize(
    ("optimum", "tried"),
    [
        (1.0, {0.5, 1, 2}),
        (4.0, {0.5, 1, 2, 4, 8}),
        (0.25, {0.125, 0.25, 0.5, 1, 2}),
        (64.0, {0.5, 1, 2, 4, 8}),
    ],
)
def test_the_grid_follows_the_optimum(optimum: float, tried: set[float]) -> None:
    """The grid grows at the edge where the optimum sits, by its own ratio and only as often as allowed."""
    losses = {"qv": 2.5, "mlp": 2.0}
    world = World(losses=losses, best_rates={"mlp": optimum}, curvature=0.2)
    plan = make_plan(*losses)
    results = run_pilot(plan, world)
    assert _rates(results, "mlp") == tried
    assert _rates(results, "qv") == {0.5, 1, 2}
    seen = _seen(plan, results)
    resolved, note = seen.resolutions["mlp"]
    assert resolved == (optimum != 64.0)
    assert resolved or "learning rate unresolved" in note


def test_a_flat_curve_needs_no_extension() -> None:
    """Where the best rate is at the edge and hardly better than its neighbour, the grid stays as it is."""
    losses = {"qv": 2.5, "mlp": 2.0}
    plan = make_plan(*losses)
    results = run_pilot(plan, World(losses=losses, best_rates={"mlp": 2.0}, curvature=0.0005))
    assert _rates(results, "mlp") == {0.5, 1, 2}
    seen = _seen(plan, results)
    assert seen.resolutions["mlp"][0]


@pytest.mark.parametrize(
    ("protocol", "noise"), [({"margin": 0.1}, 1e-4), ({"margin": 0.0}, 0.3)], ids=["margin", "noise"]
)
def test_an_edge_within_half_the_margin_or_noise_is_flat(protocol: dict[str, float], noise: float) -> None:
    """Either of both is reason enough not to follow an edge that is better by a little."""
    losses = {"qv": 2.5, "mlp": 2.0}
    plan = make_plan(*losses, protocol=protocol)
    for number in range(8):
        world = World(
            losses=losses,
            best_rates={"mlp": 2.0},
            curvature=0.02,
            run_noise=noise,
            seed_noise=1e-5,
            number=number,
        )
        assert _rates(run_pilot(plan, world), "mlp") == {0.5, 1, 2}


def test_an_optimum_that_moves_to_the_edge_later_is_unresolved() -> None:
    """A rate that overtakes its neighbour only after the first rung lies at the edge, and is marked."""
    losses = {"qv": 2.5, "mlp": 2.0}
    plan = make_plan(*losses)
    world = World(losses=losses)
    second = rung_steps(plan)[1]
    high, centre = (Trial(candidate="mlp", learning_rate=rate, seed=0) for rate in (2 * RATE, RATE))
    results = [
        replace(each, nll=tuple(nll - 30.0 for nll in each.nll))
        if isinstance(each, Evaluated) and each.trial == high and each.step == second
        else each
        for each in [
            *run_pilot(plan, world),
            *(world.evaluate(trial, second, Split.TUNING, plan) for trial in (high, centre)),
        ]
    ]
    found = {each.learning_rate for each in _seen(plan, results).units[0].trials}
    assert _seen(plan, results).chosen["mlp"] == 2 * RATE
    assert found == {2 * RATE}
    assert _seen(plan, results).resolutions["mlp"] == (
        False,
        "the optimum lies at the edge of the grid: learning rate unresolved",
    )


def test_a_single_learning_rate_is_no_search() -> None:
    """A grid of one rate cannot grow, and leaves the learning rate unresolved."""
    plan = make_plan("qv", "mlp", protocol={"grid": (1.0,)})
    seen = _seen(plan, run_pilot(plan, World(losses={"qv": 2.1, "mlp": 2.0})))
    assert not seen.resolutions["mlp"][0]


def test_a_diverging_rate_is_out_and_not_its_arm() -> None:
    """NaN at a high learning rate takes out that rate, which bounds the grid, and the arm goes on."""
    losses = {"qv": 2.1, "mlp": 2.0}
    plan = make_plan(*losses)
    seen = _seen(plan, run_pilot(plan, World(losses=losses, best_rates={"mlp": 2.0}, diverging=2.0)))
    assert seen.finalists == ("qv", "mlp")
    assert seen.searches["mlp"].out == (2 * RATE,)
    assert seen.chosen["mlp"] == RATE
    assert seen.resolutions["mlp"][0]


def test_where_every_rate_diverges_lower_ones_are_tried() -> None:
    """An arm whose whole grid diverged is tried below it before it counts as failed."""
    losses = {"qv": 2.1, "mlp": 2.0}
    plan = make_plan(*losses)
    low = World(losses=losses, best_rates={"qv": 0.25, "mlp": 0.25}, diverging=0.5)
    assert _seen(plan, run_pilot(plan, low)).chosen["mlp"] == 0.25 * RATE
    none = _seen(plan, run_pilot(plan, World(losses=losses, diverging=0.0)))
    assert none.failed == ["qv", "mlp"]
    assert none.finalists == ()


def test_a_rate_that_diverges_with_another_seed_is_out() -> None:
    """A finalist that diverges with its second seed goes on at its next best rate."""
    losses = {"qv": 2.1, "mlp": 2.0}
    trial = Trial(candidate="mlp", learning_rate=RATE, seed=1)
    failed = Failed(trial=trial, step=150, failure=Failure.DIVERGED, reason="the loss became nan")
    plan = make_plan(*losses)
    results = run_pilot(plan, World(losses=losses, curvature=0.05, failing={trial: failed}))
    seen = _seen(plan, results)
    assert seen.finalists == ("qv", "mlp")
    assert seen.chosen["mlp"] in (RATE / 2, RATE * 2)
    tested = [each.trial for each in results if isinstance(each, Evaluated) and each.split is Split.TEST]
    assert {each.seed for each in tested if each.learning_rate == seen.chosen["mlp"]} == {0, 1, 2}


def test_a_crash_of_one_seed_costs_that_seed_only() -> None:
    """A trial that crashed says nothing of its learning rate: the pilot completes without it."""
    losses = {"qv": 2.1, "mlp": 2.0}
    trial = Trial(candidate="mlp", learning_rate=RATE, seed=2)
    failed = Failed(trial=trial, step=150, failure=Failure.CRASHED, reason="the worker was killed")
    plan = make_plan(*losses)
    seen = _seen(plan, run_pilot(plan, World(losses=losses, curvature=0.05, failing={trial: failed})))
    assert seen.chosen["mlp"] == RATE
    assert seen.units == ()


def test_a_crash_in_the_search_costs_that_rate() -> None:
    """A rate whose trial crashed with the seed of the search is out, its arm is not."""
    losses = {"qv": 2.1, "mlp": 2.0}
    trial = Trial(candidate="mlp", learning_rate=2 * RATE, seed=0)
    failed = Failed(trial=trial, step=5, failure=Failure.CRASHED, reason="the worker was killed")
    plan = make_plan(*losses)
    seen = _seen(plan, run_pilot(plan, World(losses=losses, failing={trial: failed})))
    assert (seen.searches["mlp"].out, seen.searches["mlp"].missing) == ((2 * RATE,), ())
    assert seen.finalists == ("qv", "mlp")


def test_a_failure_that_was_overcome_counts_no_more() -> None:
    """A trial that crashed once and was evaluated at a later step since is as good as any."""
    losses = {"qv": 2.1, "mlp": 2.0}
    plan = make_plan(*losses)
    results = run_pilot(plan, World(losses=losses))
    trial = Trial(candidate="mlp", learning_rate=RATE, seed=0)
    crash = Failed(trial=trial, step=10, failure=Failure.CRASHED, reason="the worker was killed")
    assert next_units(plan, [crash, *results]) == ()
    assert Ledger([crash, *results]).failures() == ()


def test_a_loss_that_is_no_number_is_a_failure() -> None:
    """An evaluation with NaN counts as diverged, wherever it comes from."""
    trial = Trial(candidate="mlp", learning_rate=RATE, seed=0)
    broken = Evaluated(trial=trial, step=20, split=Split.TUNING, nll=(1.0, float("nan")), tokens=(1, 1))
    (failed,) = Ledger([broken]).failures()
    assert (failed.failure, failed.step) == (Failure.DIVERGED, 20)


def test_of_two_measurements_of_one_thing_always_the_same_one_counts() -> None:
    """Whichever comes first in a merged log: of losses, failures and stretches."""
    trial = Trial(candidate="mlp", learning_rate=RATE, seed=0)
    losses = [
        Evaluated(trial=trial, step=20, split=Split.TUNING, nll=(nll,), tokens=(1,)) for nll in (2.0, 1.0)
    ]
    failures = [
        Failed(trial=replace(trial, seed=1), step=step, failure=Failure.CRASHED, reason="it broke")
        for step in (7, 3)
    ]
    stretches = [
        Trained(trial=trial, start=0, losses=(3.0,) * steps, gradient_norms=(1.0,) * steps)
        for steps in (9, 4)
    ]
    for first, second in (losses, failures, stretches):
        one, other = Ledger([first, second]), Ledger([second, first])
        assert one.evaluated(trial, 20) == other.evaluated(trial, 20)
        assert one.failures() == other.failures()
        assert one.trained(trial) == other.trained(trial)


def test_one_arm_is_run_twice() -> None:
    """The best arm after the first rung is run again with equal seed to the end, where that is wanted."""
    losses = {"qv": 2.3, "mlp": 2.0, "attention": 2.2}
    plan = make_plan(*losses)
    results = run_pilot(plan, World(losses=losses))
    again = {each.trial for each in results if each.trial.repeat}
    assert again == {Trial(candidate="mlp", learning_rate=RATE, seed=0, repeat=1)}
    assert max(each.step for each in results if isinstance(each, Evaluated) and each.trial.repeat) == STEPS
    without = run_pilot(make_plan(*losses, protocol={"rerun": False}), World(losses=losses))
    assert not any(each.trial.repeat for each in without)


def test_full_fine_tuning_is_never_dropped() -> None:
    """The reference arm has its own grid and is trained to the end, however bad it is."""
    plan = make_plan("qv", "mlp", "attention")
    full = Candidate(name="full", arm=Arm.FULL, trainable_parameters=10**6)
    plan = replace(plan, candidates=(*plan.candidates, full))
    losses = {"qv": 2.2, "mlp": 2.0, "attention": 2.4, "full": 2.9}
    seen = _seen(plan, run_pilot(plan, World(losses=losses, best_rates={"full": 0.1})))
    assert seen.finalists == ("qv", "mlp", "full")
    assert seen.chosen["full"] == pytest.approx(2e-5)


def test_without_rungs_everything_is_trained_to_the_end() -> None:
    """No halving: every arm and rate runs to the end, and the chosen ones with every seed."""
    losses = {"qv": 2.5, "mlp": 2.0, "attention": 2.6}
    plan = make_plan(*losses, protocol={"rungs": ()})
    results = run_pilot(plan, World(losses=losses))
    assert _seen(plan, results).finalists == ("qv", "mlp", "attention")
    assert {_steps_of(results, name) for name in losses} == {STEPS}
    assert trained_steps(results) == (3 * 3 + 3 * 2 + 1) * STEPS


def test_a_single_arm_is_trained_to_the_end() -> None:
    """With one arm there is nothing to drop; it is measured all the same."""
    plan = make_plan("mlp")
    assert _seen(plan, run_pilot(plan, World(losses={"mlp": 2.0}))).finalists == ("mlp",)


def test_a_plan_without_a_base_needs_none() -> None:
    """Without the zero-step row the arms are compared with each other only."""
    plan = make_plan(candidates=(make_candidate("qv"), make_candidate("mlp")))
    assert base_trial(plan) is None
    assert {each.trial.candidate for each in run_pilot(plan, World(losses={"qv": 2.1, "mlp": 2.0}))} == {
        "qv",
        "mlp",
    }
