"""The verdict: what is answered, what is recommended, and the sentence that says so."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lora_probe.graph import Note
from lora_probe.piloting.cautions import Caution
from lora_probe.piloting.comparisons import Standings
from lora_probe.piloting.outcome import Answer, Comparison, Confidence, Relation
from lora_probe.piloting.records import DataFacts, Task
from lora_probe.piloting.verdict import decide
from tests.pilot_worlds import make_candidate, make_plan

if TYPE_CHECKING:
    from lora_probe.piloting.outcome import Verdict
    from lora_probe.piloting.records import Plan

PLAN = make_plan(
    candidates=(
        make_candidate("mlp", trainable_parameters=1000, paths=("a", "b", "c")),
        make_candidate("qv", trainable_parameters=990, paths=("a", "b")),
        make_candidate("o", trainable_parameters=500, paths=("a",)),
    )
)
BETTER, EQUIVALENT, UNRESOLVED = Relation.BETTER, Relation.EQUIVALENT, Relation.UNRESOLVED


def _against(second: str, relation: Relation, low: float = -0.03, high: float = -0.01) -> Comparison:
    return Comparison(
        first="mlp", second=second, difference=(low + high) / 2, low=low, high=high, family_low=low,
        family_high=high, p=0.01, family_p=0.02, relation=relation, seeds=(0, 1, 2), items=256,
        seed_error=0.001, item_error=0.002,
    )  # fmt: skip


def _decided(*rivals: Comparison, plan: Plan = PLAN, complete: bool = True) -> Verdict:
    names = ("mlp", *(each.second for each in rivals))
    standings = Standings(best="mlp", places=names, seeds=(0, 1, 2), pairs=rivals, against_best=rivals)
    return decide(plan, standings, (), complete=complete, failed=())


def test_better_than_every_other() -> None:
    """One arm is better than all others: it is recommended, with the distance to the closest."""
    verdict = _decided(_against("qv", BETTER), _against("o", BETTER, -0.2, -0.1))
    assert (verdict.answer, verdict.recommended, verdict.equivalent) == (Answer.BETTER, "mlp", ())
    assert verdict.sentence == (
        "Adapt mlp: at this pilot's budget it is better on unseen examples than each of the 2 other "
        "finalists; the closest, qv, has between 1% and 3% more perplexity "
        "(200 steps, 3 seeds, 256 test examples, 95% confidence)."
    )


def test_of_equivalent_arms_the_cheapest_is_recommended() -> None:
    """Fewer parameters win among equivalents, and what is worse is named."""
    verdict = _decided(_against("o", EQUIVALENT, -0.008, 0.002), _against("qv", BETTER))
    assert (verdict.answer, verdict.recommended, verdict.equivalent) == (Answer.EQUIVALENT, "o", ("o",))
    assert verdict.best == "mlp"
    assert verdict.sentence.startswith(
        "Adapt o: at this pilot's budget mlp and o do equally well on unseen examples, within 1%, and qv is "
        "worse, and it is the cheapest"
    )


def test_alike_parameters_leave_it_to_the_weights() -> None:
    """Where parameters are alike, as they are by default, the arm with fewer adapted weights costs less."""
    assert _decided(_against("qv", EQUIVALENT, -0.008, 0.002)).recommended == "qv"


def test_one_open_comparison_leaves_it_open() -> None:
    """Nothing is recommended as long as some finalist may be better."""
    verdict = _decided(_against("o", EQUIVALENT, -0.008, 0.002), _against("qv", UNRESOLVED, -0.02, 0.01))
    assert (verdict.answer, verdict.recommended, verdict.best) == (Answer.UNRESOLVED, None, "mlp")
    assert "it cannot be told from qv: it may have between 1% less and 2% more perplexity" in verdict.sentence


def test_a_loss_without_perplexity_is_said_in_nats() -> None:
    """Classifiers have no perplexity: differences are nats of loss."""
    plan = replace(PLAN, data=DataFacts(source="x", task=Task.SEQUENCE_CLASSIFICATION))
    assert "between 0.01 nats and 0.03 nats more loss" in _decided(_against("qv", BETTER), plan=plan).sentence


def test_no_answer_before_the_end() -> None:
    """An incomplete pilot recommends nothing, however clear it looks."""
    verdict = _decided(_against("qv", BETTER), complete=False)
    assert (verdict.answer, verdict.recommended) == (Answer.UNRESOLVED, None)
    assert verdict.sentence == "No answer yet: so far mlp has the lowest loss on unseen examples."


@pytest.mark.parametrize(
    ("best", "sentence"),
    [
        (None, "No answer: no arm came to the end (qv and o failed)."),
        ("mlp", "No answer: only mlp came to the end, and it has no rival (qv and o failed)."),
    ],
)
def test_nothing_to_compare(best: str | None, sentence: str) -> None:
    """Where fewer than two arms came to the end, the sentence says why."""
    places = (best,) if best else ()
    standings = Standings(best=best, places=places, seeds=(0,), pairs=(), against_best=())
    verdict = decide(PLAN, standings, (), complete=True, failed=("qv", "o"))
    assert (verdict.answer, verdict.sentence) == (Answer.UNRESOLVED, sentence)


@pytest.mark.parametrize("rivals", [(), (_against("qv", BETTER),)])
def test_a_base_as_good_as_every_set_is_said_first(rivals: tuple[Comparison, ...]) -> None:
    """Nothing is recommended where training made the model worse, also of a single arm."""
    names = ("mlp", *(each.second for each in rivals))
    standings = Standings(
        best="mlp", places=names, seeds=(0, 1, 2), pairs=rivals, against_best=rivals, gain=-3.2
    )
    verdict = decide(PLAN, standings, (), complete=True, failed=())
    assert (verdict.answer, verdict.recommended) == (Answer.UNRESOLVED, None)
    assert verdict.sentence.startswith("Adapt nothing yet: no set made the model better")


def test_doubts_lower_the_confidence() -> None:
    """Warnings that doubt the verdict become its caveats, others do not."""
    rivals = (_against("qv", BETTER),)
    standings = Standings(best="mlp", places=("mlp", "qv"), seeds=(0,), pairs=rivals, against_best=rivals)
    doubt = Caution(note=Note(code="x", message="their curves cross"), doubts_verdict=True)
    word = Caution(note=Note(code="y", message="few items"), doubts_verdict=False)
    verdict = decide(PLAN, standings, (doubt, word), complete=True, failed=())
    assert (verdict.confidence, verdict.caveats) == (Confidence.LOW, ("their curves cross",))
    assert decide(PLAN, standings, (word,), complete=True, failed=()).confidence is Confidence.USUAL


def test_names_are_shown_safely() -> None:
    """A name with control characters reaches the sentence escaped."""
    plan = make_plan("mlp", "a\x1b[31m")
    assert "\\x1b" in _decided(_against("a\x1b[31m", BETTER), plan=plan).sentence
