"""From plan and results to leaderboard, comparisons, warnings and documents."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from lora_probe.piloting.analysis import analyse
from lora_probe.piloting.outcome import Answer, Confidence, Relation, Status
from lora_probe.piloting.records import (
    Arm,
    Candidate,
    DataFacts,
    Evaluated,
    Failed,
    Failure,
    Split,
    Trained,
    Trial,
)
from tests.pilot_worlds import RATE, STEPS, World, make_candidate, make_plan, run_pilot, trained_steps

if TYPE_CHECKING:
    from lora_probe.piloting.outcome import Analysis
    from lora_probe.piloting.records import Plan, Result

LOSSES = {"qv": 2.3, "attention": 2.2, "mlp": 2.0, "all-linear": 2.1}
"""`mlp` is best, and nothing lies within noise of anything."""


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Return a plan of four sets, the base and full fine-tuning."""
    plan = make_plan(*LOSSES)
    full = Candidate(name="full", arm=Arm.FULL, trainable_parameters=10**6)
    return replace(plan, candidates=(*plan.candidates, full))


@pytest.fixture(scope="module")
def results(plan: Plan) -> list[Result]:
    """Return all that the pilot measures."""
    return run_pilot(plan, World(losses={**LOSSES, "full": 1.9}, best_rates={"full": 0.1}))


@pytest.fixture(scope="module")
def analysis(plan: Plan, results: list[Result]) -> Analysis:
    """Return what they say."""
    return analyse(plan, results)


def _codes(analysis: Analysis) -> set[str]:
    return {note.code for note in analysis.warnings}


def _analysed(plan: Plan, world: World) -> Analysis:
    return analyse(plan, run_pilot(plan, world))


def test_the_leaderboard_holds_every_arm_once(analysis: Analysis) -> None:
    """Finalists come first by place, then what was dropped, then the references."""
    rows = [(row.place, row.candidate, row.status) for row in analysis.leaderboard]
    assert rows == [
        (1, "mlp", Status.FINALIST),
        (2, "all-linear", Status.FINALIST),
        (None, "attention", Status.DROPPED),
        (None, "qv", Status.DROPPED),
        (None, "full", Status.REFERENCE),
        (None, "base", Status.REFERENCE),
    ]


def test_rows_are_read_off_the_evaluations(analysis: Analysis, results: list[Result]) -> None:
    """A finalist's figures are those of its trials at the chosen learning rate, with all seeds."""
    row = analysis.leaderboard[0]
    tested = [
        each
        for each in results
        if isinstance(each, Evaluated) and each.trial.candidate == "mlp" and each.split is Split.TEST
    ]
    assert row.seeds == (0, 1, 2)
    assert row.test_loss_by_seed == tuple(each.loss for each in tested)
    assert row.test_loss is not None
    assert row.test_loss == pytest.approx(sum(row.test_loss_by_seed) / 3)
    assert (row.steps, row.learning_rate, row.learning_rate_resolved, row.difference) == (
        STEPS,
        RATE,
        True,
        0,
    )
    assert row.accuracy == pytest.approx(0.33, abs=0.01)
    base = analysis.leaderboard[-1]
    assert base.gain == 0
    assert base.test_loss is not None
    assert row.gain == pytest.approx(base.test_loss - row.test_loss)


def test_dropped_rows_say_why(analysis: Analysis) -> None:
    """An arm that halving took out names the rung, its distance and the band."""
    row = next(row for row in analysis.leaderboard if row.candidate == "qv")
    assert "nats behind mlp" in row.note
    assert row.test_loss is None
    assert [each.reason for each in analysis.dropped if each.candidate == "qv"] == [row.note]


def test_the_best_arm_stands_first_in_every_comparison(analysis: Analysis) -> None:
    """Each other finalist is compared with the best, then the references, which no correction covers."""
    others = [(each.first, each.second, each.in_family, each.relation) for each in analysis.comparisons]
    assert others == [
        ("mlp", "all-linear", True, Relation.BETTER),
        ("mlp", "base", False, Relation.BETTER),
        ("mlp", "full", False, Relation.WORSE),
    ]
    assert len(analysis.pairs) == 1
    for each in analysis.comparisons:
        assert each.low < each.difference < each.high


def test_the_pareto_front(analysis: Analysis) -> None:
    """Of arms with a result, those are on the front that no arm beats with fewer parameters."""
    front = {row.candidate for row in analysis.leaderboard if row.on_pareto_front}
    assert front == {"base", "mlp", "full"}


def test_curves_belong_to_trials(analysis: Analysis) -> None:
    """Each trial has its losses by step, and those at the chosen rate are marked."""
    curve = next(
        each
        for each in analysis.loss_curves
        if each.trial == Trial(candidate="mlp", learning_rate=RATE, seed=0)
    )
    assert curve.train_steps == tuple(range(1, STEPS + 1))
    assert curve.tuning_steps == (20, 60, STEPS)
    assert curve.chosen
    assert not any(each.trial.candidate == "base" for each in analysis.loss_curves)


def test_the_search_for_learning_rates_is_shown(analysis: Analysis) -> None:
    """Each arm has a curve over its rates, measured after equal steps, with the chosen one."""
    curve = next(each for each in analysis.learning_rates if each.candidate == "mlp")
    assert [point.learning_rate for point in curve.points] == [RATE / 2, RATE, 2 * RATE]
    assert {point.step for point in curve.points} == {20}
    assert curve.chosen == RATE
    assert min(curve.points, key=lambda point: point.loss or 9).learning_rate == RATE


def test_work_is_counted_against_everything(analysis: Analysis, results: list[Result]) -> None:
    """The steps of all trials are set against each arm at each rate with each seed."""
    assert analysis.work.trial_steps == trained_steps(results)
    assert analysis.work.naive_trial_steps == 5 * 3 * 3 * STEPS
    assert analysis.work.ratio == pytest.approx(analysis.work.naive_trial_steps / analysis.work.trial_steps)


def test_equal_runs_are_compared(analysis: Analysis) -> None:
    """The arm that was run twice shows how much equal runs differ: here not at all."""
    noise = analysis.rerun_noise
    assert noise is not None
    assert (noise.trial.candidate, noise.step, noise.difference, noise.identical) == ("mlp", STEPS, 0.0, True)


def test_order_and_repetition_do_not_matter(plan: Plan, results: list[Result], analysis: Analysis) -> None:
    """The analysis depends on the set of results alone."""
    shuffled = [*results, *results[:20]]
    random.Random(0).shuffle(shuffled)  # noqa: S311 - no secret
    assert analyse(plan, shuffled) == analysis


def test_it_may_be_asked_at_any_time(plan: Plan, results: list[Result]) -> None:
    """Of any beginning of the log there is an analysis, which says that there is no answer yet."""
    for cut in range(0, len(results), 7):
        early = analyse(plan, results[:cut])
        assert not early.complete
        assert early.verdict.answer is Answer.UNRESOLVED
        assert early.verdict.recommended is None
        assert early.verdict.sentence.startswith("No answer yet")
        assert len(early.leaderboard) == len(plan.candidates)


def test_everything_can_be_written(analysis: Analysis) -> None:
    """JSON holds every part, and frames have one line an arm and a comparison."""
    document = json.loads(analysis.to_json())
    assert document["verdict"]["answer"] == "better"
    assert document["work"]["ratio"] == analysis.work.ratio
    assert list(analysis.to_frame()["candidate"]) == [row.candidate for row in analysis.leaderboard]
    assert list(analysis.comparisons_to_frame()["second"]) == ["all-linear", "base", "full"]


def test_losses_on_other_items_are_refused(plan: Plan, results: list[Result]) -> None:
    """Evaluations of one part on different items cannot be compared, and are no result."""
    foreign = [
        replace(each, nll=each.nll[1:], tokens=each.tokens[1:])
        if isinstance(each, Evaluated) and each.trial.candidate == "mlp" and each.split is Split.TEST
        else each
        for each in results
    ]
    with pytest.raises(ValueError, match="different items"):
        analyse(plan, foreign)


def test_a_failed_arm_is_a_row_with_its_reason() -> None:
    """An arm that fails at every learning rate stays on the leaderboard, and the rest is compared."""
    losses = {"qv": 2.1, "mlp": 2.0, "attention": 2.2}
    plan = make_plan(*losses)
    failing = {
        trial: Failed(
            trial=trial, step=3, failure=Failure.OUT_OF_MEMORY, reason="it does not fit, even alone"
        )
        for factor in (0.5, 1.0, 2.0)
        for trial in [Trial(candidate="attention", learning_rate=factor * RATE, seed=0)]
    }
    analysis = _analysed(plan, World(losses=losses, failing=failing))
    row = analysis.leaderboard[2]
    assert (row.candidate, row.status, row.note) == (
        "attention",
        Status.FAILED,
        "it does not fit, even alone",
    )
    assert len(analysis.failures) == 3
    assert analysis.verdict.best == "mlp"
    assert "arm-failed" in _codes(analysis)
    assert analysis.verdict.confidence is Confidence.LOW


def test_an_arm_that_lost_a_seed_is_not_flattered() -> None:
    """Where two other arms have every seed, one that lost one takes no part in the comparisons."""
    losses = {"qv": 2.012, "mlp": 2.006, "attention": 2.0}
    plan = make_plan(*losses)
    trial = Trial(candidate="attention", learning_rate=RATE, seed=2)
    crash = Failed(trial=trial, step=150, failure=Failure.CRASHED, reason="the worker was killed")
    other = replace(crash, trial=replace(trial, learning_rate=2 * RATE, seed=0), step=5, reason="it blew up")
    failing = {each.trial: each for each in (crash, other)}
    world = World(losses=losses, curvature=0.05, item_noise=0.1, failing=failing)
    analysis = _analysed(plan, world)
    assert {each.second for each in analysis.pairs} | {each.first for each in analysis.pairs} == {"qv", "mlp"}
    row = next(row for row in analysis.leaderboard if row.candidate == "attention")
    assert (row.place, row.seeds) == (None, (0, 1))
    assert row.note == "no result with seed 2: the worker was killed"
    assert "seed-lost" in _codes(analysis)


def test_crossing_curves_lower_the_confidence() -> None:
    """Where another arm was clearly ahead in the second half, a longer run may answer otherwise."""
    losses = {"qv": 2.1, "mlp": 2.0}
    plan = make_plan(*losses)
    results = run_pilot(plan, World(losses=losses))
    assert "crossing-curves" not in _codes(analyse(plan, results))
    trial = Trial(candidate="qv", learning_rate=RATE, seed=0)
    middle = World(losses={"qv": 1.8, "mlp": 2.0})
    crossing = [
        middle.evaluate(replace(trial, candidate=name), 150, Split.TUNING, plan) for name in ("qv", "mlp")
    ]
    analysis = analyse(plan, [*results, *crossing])
    assert "crossing-curves" in _codes(analysis)
    assert analysis.verdict.confidence is Confidence.LOW


def test_few_seeds_are_said() -> None:
    """With two seeds the reader learns that the interval covers evaluation sampling only."""
    losses = {"qv": 2.3, "mlp": 2.0}
    analysis = _analysed(make_plan(*losses, protocol={"seeds": (0, 1)}), World(losses=losses))
    assert any("cover evaluation sampling only" in caveat for caveat in analysis.verdict.caveats)
    assert "2 seeds, 128 test examples, 95% confidence over test examples only" in analysis.verdict.sentence
    assert analysis.verdict.confidence is Confidence.LOW
    assert analysis.comparisons[0].seed_error is None


def test_unresolved_learning_rates_are_said() -> None:
    """A finalist whose optimum lies beyond the grid is marked, and lowers the confidence."""
    losses = {"qv": 2.3, "mlp": 2.0}
    world = World(losses=losses, best_rates={"mlp": 64.0}, curvature=0.2)
    analysis = _analysed(make_plan(*losses), world)
    row = next(row for row in analysis.leaderboard if row.candidate == "mlp")
    assert row.learning_rate_resolved is False
    assert "learning-rate-unresolved" in _codes(analysis)
    assert analysis.verdict.confidence is Confidence.LOW


def test_few_parameters_against_many_tokens_are_said() -> None:
    """A set that could not hold the data is warned of, without doubting the verdict."""
    losses = {"qv": 2.3, "mlp": 2.0}
    plan = make_plan(*losses, data=DataFacts(source="big.jsonl", train_tokens=10**6))
    analysis = _analysed(plan, World(losses=losses))
    assert "capacity" in _codes(analysis)
    assert analysis.verdict.confidence is Confidence.USUAL


def test_unequal_finalists_are_said() -> None:
    """Where a rank of its own makes sets unequal, the reader learns it."""
    candidates = (make_candidate("qv", trainable_parameters=500), make_candidate("mlp"))
    analysis = _analysed(make_plan(candidates=candidates), World(losses={"qv": 2.3, "mlp": 2.0}))
    assert "unequal-parameters" in _codes(analysis)


def test_an_arm_no_better_than_the_base_is_said() -> None:
    """A winner among losers is no reason to train."""
    losses = {"qv": 3.3, "mlp": 3.2}
    analysis = _analysed(make_plan(*losses), World(losses=losses))
    assert "no-gain" in _codes(analysis)
    assert (analysis.verdict.answer, analysis.verdict.recommended) == (Answer.UNRESOLVED, None)
    assert analysis.verdict.sentence.startswith("Adapt nothing yet")


@pytest.mark.parametrize(
    ("gain", "noise", "said"),
    [(0.0005, 0.01, "does not matter"), (0.006, 0.1, "may be chance"), (1.0, 0.01, None)],
)
def test_an_arm_hardly_better_than_the_base_is_said(gain: float, noise: float, said: str | None) -> None:
    """Where the model as it is does as well, or noise explains the rest, the pilot was too short to tell."""
    losses = {"qv": 3.0 - gain, "mlp": 3.0 - 1.5 * gain}
    world = World(losses=losses, curvature=1e-5, item_noise=noise, seed_noise=1e-5, number=3)
    analysis = _analysed(make_plan(*losses), world)
    found = [note.message for note in analysis.warnings if note.code == "small-gain"]
    assert len(found) == (said is not None)
    if said is not None:
        assert f"nats better than the model as it is, which {said}" in found[0]
        assert found[0] in analysis.verdict.caveats


def test_large_rerun_noise_is_said() -> None:
    """Where two equal runs differ as much as the best arms do, the verdict is in doubt."""
    losses = {"qv": 2.01, "mlp": 2.0}
    assert "rerun-noise" in _codes(_analysed(make_plan(*losses), World(losses=losses, rerun_noise=0.1)))


def test_adapters_without_gradient_are_named() -> None:
    """A path that got no gradient in every stretch of a trial is reported, one that got some is not."""
    losses = {"qv": 2.3, "mlp": 2.0}
    plan = make_plan(*losses)
    dead = {0: ("model.dead", "model.late"), 20: ("model.dead",), 60: None}
    results = [
        replace(each, dead=dead[each.start])
        if isinstance(each, Trained) and each.trial == Trial(candidate="mlp", learning_rate=RATE, seed=0)
        else each
        for each in run_pilot(plan, World(losses=losses))
    ]
    analysis = analyse(plan, results)
    assert analysis.dead_adapters == {"mlp": ("model.dead",)}
    assert "dead-adapters" in _codes(analysis)


def _winners(pilots: int, *, seed_noise: float = 0.0015) -> int:
    """Return how many of some pilots of equal arms name a winner, searches and halving included."""
    plan = make_plan(*LOSSES, protocol={"margin": 1e-6})
    equal = dict.fromkeys(LOSSES, 2.0)
    with patch("gc.collect"):  # which statsmodels calls with every correction
        worlds = (World(losses=equal, number=number, seed_noise=seed_noise) for number in range(pilots))
        return sum(_analysed(plan, each).verdict.answer is Answer.BETTER for each in worlds)


def test_a_pilot_in_which_nothing_is_true_names_no_winner() -> None:
    """Over whole pilots of equal arms a winner is a rare mistake."""
    assert _winners(40) <= 2


@pytest.mark.planted
@pytest.mark.parametrize("seed_noise", [0.0003, 0.003, 0.03])
def test_winners_of_two_hundred_pilots_in_which_nothing_is_true(seed_noise: float) -> None:
    """A winner is named in no more than 5 of 100 pilots, whether items or seeds scatter most."""
    assert _winners(200, seed_noise=seed_noise) <= 10
