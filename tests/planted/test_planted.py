"""Pilots name what was planted, and nothing where nothing was."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from transformers.utils import logging

from lora_probe.piloting.outcome import Answer, Relation
from tests.planted.naive import Race
from tests.planted.planting import BUDGET, DIVERGENCE, SETS, plant
from tests.planted.report import Findings, render
from tests.planted.suite import NULLS, PLANTINGS, Null, Outcome, Twins, nulls, pilot_on, plantings, twins

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_progress_bars() -> Iterator[None]:
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


def test_a_planting_is_the_same_every_time(tmp_path: Path) -> None:
    """The same number gives the same base and text; the text is of a model that differs as much as asked."""
    first, again, nothing = (
        plant(tmp_path / name, planted, number=1, examples=30)
        for name, planted in (("first", "mlp.down"), ("again", "mlp.down"), ("nothing", None))
    )
    assert first.data.read_bytes() == again.data.read_bytes() != nothing.data.read_bytes()
    weights = [(each.model / "model.safetensors").read_bytes() for each in (first, again, nothing)]
    assert weights[0] == weights[1] == weights[2], "the base is given to the pilot as it was"
    assert first.divergence == pytest.approx(DIVERGENCE, abs=0.03)
    assert nothing.divergence == 0.0


def test_one_planting_is_named(tmp_path: Path) -> None:
    """A short pilot names the planted one of two sets of equally many parameters, and adapts it alone."""
    candidates = ("mlp.gate", "attention.o")
    found, _, _ = pilot_on(tmp_path, "attention.o", number=3, candidates=candidates, steps=60, rerun=False)
    assert {row.trainable_parameters for row in found.leaderboard if row.steps} == {BUDGET}
    assert found.verdict.answer is Answer.BETTER
    assert found.verdict.best == found.verdict.recommended == "attention.o"


def test_one_set_spelled_twice_is_equivalent_to_itself(tmp_path: Path) -> None:
    """Two names of the same modules are told apart by nothing, whatever the text."""
    spellings = ("attention.q+attention.v", "attention.v+attention.q")
    found, _, _ = pilot_on(tmp_path, "mlp.up", number=4, candidates=spellings, steps=10, grid=(1.0,))
    (pair,) = found.pairs
    assert pair.relation is Relation.EQUIVALENT
    assert (pair.difference, pair.low, pair.high) == (0.0, 0.0, 0.0)


def test_the_report_counts_what_is_resolved_and_what_is_not() -> None:
    """Neither an unresolved planting nor one with a decoy preferred is counted as resolved."""
    right = Outcome(
        number=0, planted="mlp.up", divergence=0.5, entropy=2.0, answer="better", best="mlp.up",
        recommended="mlp.up", preferred=(), planted_dropped=False, finalists=3, planted_loss=2.1,
        base_loss=2.5, closest="mlp.gate", difference=-0.2, low=-0.3, high=-0.1, low_confidence=False,
        work_ratio=6.0, seconds=20.0,
    )  # fmt: skip
    open_ = replace(right, answer="unresolved", recommended=None)
    wrong = replace(right, best="mlp.gate", recommended="mlp.gate", preferred=("mlp.gate",))
    null = Null(number=0, answer="unresolved", recommended=None, gain=-0.01, seconds=1.0)
    same = Twins(planted="mlp.up", verdicts=20, any_better=1, answered_better=1, equivalent=2)
    raced = Race(
        number=0, planted="mlp.up", pilot_says="mlp.up", naive_says="mlp.up", pilot_seconds=10.0,
        naive_seconds=60.0, pilot_cpu=10.0, naive_cpu=70.0, runs=90, runs_taken=30, threads=1, work_ratio=6.0,
    )  # fmt: skip
    found = Findings(
        outcomes=(right, open_, wrong), nulls=(null,), twins=(same,), simulated=(), races=(raced,), load=1.0
    )
    text = "\n".join(render(found))
    assert [each.resolved for each in found.outcomes] == [True, False, False]
    assert "resolved: **1 of 3 (" in text
    assert "dropped by halving: **1 of 3 (" in text
    assert "one arm called better than the other: **1 of 20 (0.1 to 24.9%)**" in text
    assert "| 30 of 90 | 10 s | 60 s | **6.0" in text
    assert "scaled up" in text


@pytest.mark.planted
def test_nineteen_of_twenty_plantings_are_named() -> None:
    """At least 19 of 20 are called better than all rivals and recommended; no decoy ever is."""
    outcomes = list(plantings())
    assert {each.planted for each in outcomes} == set(SETS)
    assert not [each for each in outcomes if each.preferred or each.planted_dropped]
    assert not [each for each in outcomes if each.recommended not in (None, each.planted)]
    wrong = [each for each in outcomes if not each.resolved]
    assert len(outcomes) == PLANTINGS == 20
    assert len(wrong) <= 1, wrong


@pytest.mark.planted
def test_nothing_is_recommended_where_nothing_was_planted() -> None:
    """On text of the base itself no set is recommended: none is better than the base."""
    outcomes = list(nulls())
    assert len(outcomes) == NULLS
    assert not [each for each in outcomes if each.recommended or each.answer == Answer.BETTER], outcomes


@pytest.mark.planted
def test_trained_arms_that_do_not_differ_are_hardly_ever_told_apart() -> None:
    """Of 200 comparisons of a set with itself under other seeds, at most 5 in 100 call one arm better."""
    found = list(twins())
    verdicts = sum(each.verdicts for each in found)
    assert verdicts == 200
    assert sum(each.answered_better for each in found) <= sum(each.any_better for each in found)
    assert sum(each.any_better for each in found) <= 0.05 * verdicts, found
