"""The arms of a pilot: equal parameters or equal ranks, exact paths, references."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import lora_probe
from lora_probe.errors import BadRank, ConflictingOptions, LoraProbeError, UnknownChoice, UnmatchedTarget
from lora_probe.piloting.candidates import propose_candidates
from lora_probe.piloting.errors import BadPilotOption
from lora_probe.piloting.records import Arm, Candidate
from tests.handmade import tiny_graph

if TYPE_CHECKING:
    from lora_probe.graph import ModuleGraph


@pytest.fixture(scope="module")
def llama() -> ModuleGraph:
    """Return the graph of a published model of the Llama kind."""
    return lora_probe.scan("Qwen/Qwen2.5-0.5B", source="catalogue")


def _lora(candidates: tuple[Candidate, ...]) -> dict[str, Candidate]:
    return {each.name: each for each in candidates if each.arm is Arm.LORA}


def test_nobody_needs_to_name_the_sets_that_people_argue_about(llama: ModuleGraph) -> None:
    """By default the base stands beside the six sets that the literature compares."""
    candidates = propose_candidates(llama).candidates
    assert [each.name for each in candidates] == [
        "base", "qv", "attention", "mlp", "o+down", "v+o+down", "all-linear",
    ]  # fmt: skip
    assert candidates[0].arm is Arm.BASE
    assert candidates[0].trainable_parameters == 0


def test_sets_get_equal_parameters(llama: ModuleGraph) -> None:
    """Each set has the largest rank within what the largest costs at rank 8, and says what it leaves."""
    proposal = propose_candidates(llama)
    arms = _lora(proposal.candidates)
    assert arms["all-linear"].rank == 8
    assert proposal.limit == arms["all-linear"].trainable_parameters
    for name, arm in arms.items():
        assert arm.left_over == proposal.limit - arm.trainable_parameters >= 0
        row = lora_probe.budget(llama, [name], [arm.rank, arm.rank + 1]).rows
        assert row[0].trainable_parameters == arm.trainable_parameters
        assert row[1].trainable_parameters > proposal.limit


def test_alpha_over_rank_is_held_fixed(llama: ModuleGraph) -> None:
    """Whatever rank a set gets, its update is scaled alike, and PEFT is told so."""
    for arm in _lora(propose_candidates(llama, alpha_over_rank=4.0, dropout=0.1).candidates).values():
        assert arm.alpha == 4.0 * arm.rank == arm.lora["lora_alpha"]
        assert arm.lora["r"] == arm.rank
        assert arm.lora["lora_dropout"] == 0.1


def test_equal_ranks_on_request(llama: ModuleGraph) -> None:
    """Equal rank leaves parameters to differ, and no budget to be left over."""
    proposal = propose_candidates(llama, equal="rank", rank=4)
    assert proposal.limit is None
    assert {(arm.rank, arm.left_over) for arm in _lora(proposal.candidates).values()} == {(4, None)}


def test_a_budget_of_ones_own(llama: ModuleGraph) -> None:
    """A budget in parameters decides the rank of every set."""
    arms = _lora(propose_candidates(llama, ["qv", "mlp"], max_parameters="1M").candidates)
    for arm in arms.values():
        assert arm.trainable_parameters <= 1_000_000 < arm.trainable_parameters // arm.rank * (arm.rank + 1)
    assert arms["qv"].rank > arms["mlp"].rank


def test_a_set_may_bring_its_own_rank(llama: ModuleGraph) -> None:
    """``SPEC:r=N`` is trained at that rank, and a note says that it is not equal to the others."""
    proposal = propose_candidates(llama, ["attention.q:r=3", "mlp"])
    arms = _lora(proposal.candidates)
    assert arms["attention.q:r=3"].rank == 3
    assert arms["attention.q:r=3"].targets == "attention.q"
    assert arms["mlp"].rank == 8
    assert [note.code for note in proposal.notes] == ["own-rank"]


def test_paths_are_exact(llama: ModuleGraph) -> None:
    """A candidate names every module that is adapted, as `resolve` finds them."""
    arms = _lora(propose_candidates(llama, ["qv", "mlp.down@last:2"]).candidates)
    for arm in arms.values():
        assert arm.paths == tuple(site.path for site in lora_probe.resolve(llama, arm.targets))
    assert arms["mlp.down@last:2"].paths == ("model.layers.22.mlp.down_proj", "model.layers.23.mlp.down_proj")


def test_bare_parameters_are_named_by_their_full_name() -> None:
    """Experts without modules are listed apart from the modules."""
    (_, arm) = propose_candidates(tiny_graph(), ["attention.q+experts.down"], equal="rank").candidates
    assert arm.parameters[0] == "model.layers.1.mlp.experts.down_proj"
    assert "model.layers.0.self_attn.q_proj" in arm.paths
    assert not any("experts" in path for path in arm.paths)


def test_of_several_towers_the_language_model_is_meant() -> None:
    """Roles without a tower would also adapt the vision tower; only PEFT's own all-linear does."""
    arms = _lora(propose_candidates(tiny_graph()).candidates)
    assert not any("vision" in path for path in arms["attention"].paths)
    assert any("vision" in path for path in arms["all-linear"].paths)


def test_experts_are_compared_only_by_name() -> None:
    """Where all-linear reaches into experts it is left out with a note, as their number drowns other sets."""
    graph = lora_probe.scan("Qwen/Qwen3-30B-A3B", source="catalogue")
    proposal = propose_candidates(graph)
    assert list(_lora(proposal.candidates)) == ["qv", "attention"]
    assert [note.code for note in proposal.notes] == ["experts-left-out"]
    assert list(_lora(propose_candidates(graph, ["qv", "all-linear"]).candidates)) == ["qv", "all-linear"]


def test_sets_that_peft_refuses_are_noted() -> None:
    """A set that PEFT would not take is left out of the defaults, and a note says why."""
    proposal = propose_candidates(lora_probe.scan("tiiuae/Falcon-H1-0.5B-Base", source="catalogue"))
    assert "all-linear" not in _lora(proposal.candidates)
    assert "set-refused" in {note.code for note in proposal.notes}


def test_full_fine_tuning_is_a_reference(llama: ModuleGraph) -> None:
    """Where asked for, every weight of the model is an arm of its own."""
    last = propose_candidates(llama, ["qv"], full=True).candidates[-1]
    assert (last.arm, last.trainable_parameters) == (Arm.FULL, llama.total_parameters)


def test_a_set_that_cannot_spend_the_budget_is_noted(llama: ModuleGraph) -> None:
    """A small set stops at full rank, and a note says how much it leaves."""
    proposal = propose_candidates(llama, ["attention.k@0", "all-linear"], rank=64)
    assert [note.code for note in proposal.notes] == ["budget-unspent"]
    assert "attention.k@0 leaves" in proposal.notes[0].message


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"targets": ["qv", "qv"]}, BadPilotOption, "given twice"),
        ({"targets": ["base"]}, BadPilotOption, "name of another arm"),
        ({"targets": []}, BadPilotOption, "at least one"),
        ({"targets": ["no_such_layer"]}, UnmatchedTarget, "no_such_layer"),
        ({"targets": ["qv:r=0"]}, BadRank, "at least 1"),
        ({"targets": ["mlp"], "max_parameters": 10}, BadPilotOption, "must be at least"),
        ({"equal": "bytes"}, UnknownChoice, "bytes"),
        ({"equal": "rank", "max_parameters": 10}, ConflictingOptions, "equal parameters"),
        ({"alpha_over_rank": 0.0}, BadPilotOption, "greater than 0"),
        ({"modules_to_save": ("nowhere",)}, UnmatchedTarget, "nowhere in modules_to_save"),
        ({"targets": ["mlp"], "modules_to_save": ("nowhere",)}, UnmatchedTarget, "nowhere"),
    ],
)
def test_what_cannot_be_an_arm_is_said(
    llama: ModuleGraph, arguments: dict[str, object], error: type[LoraProbeError], words: str
) -> None:
    """Bad candidates end in one sentence that names what is wrong."""
    with pytest.raises(error, match=words):
        propose_candidates(llama, **arguments)  # type: ignore[arg-type]
