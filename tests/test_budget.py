"""Budgets: rows that add up, options that PEFT knows, and refusals before anything is counted."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

import lora_probe
from lora_probe import budget, scan
from lora_probe.budgeting import By
from lora_probe.errors import (
    BadRank,
    ConflictingOptions,
    LoraProbeError,
    PeftRefusal,
    UnknownChoice,
    UnmatchedTarget,
)
from lora_probe.graph import Kind
from lora_probe.peft_rules import LoraSettings, predict
from lora_probe.report.budget_wording import verdict
from lora_probe.targets import parse_targets
from tests.handmade import make_graph, make_site, tiny_graph
from tests.tiny_models import build_tiny

if TYPE_CHECKING:
    from lora_probe import ModuleGraph

ROW_KEYS = {
    "targets", "rank", "sites", "trainable_parameters", "share", "adapter_bytes", "target_modules",
    "target_parameters",
}  # fmt: skip


@pytest.fixture(scope="module")
def llama() -> ModuleGraph:
    """Return the graph of a Llama with three layers."""
    return scan(build_tiny("llama"))


@pytest.fixture(scope="module")
def experts() -> ModuleGraph:
    """Return the graph of a Qwen3 with fused experts, whose old names PEFT rewrites."""
    return scan(build_tiny("qwen3-moe"))


def test_a_row_is_a_set_at_a_rank(llama: ModuleGraph) -> None:
    """Rows come by set, then by rank, each in the order asked for, and share is of the model's parameters."""
    found = budget(llama, ["attention.q", "q_proj,v_proj"], [4, 2])
    assert [(row.targets, row.rank) for row in found.rows] == [
        ("attention.q", 4), ("attention.q", 2), ("q_proj,v_proj", 4), ("q_proj,v_proj", 2),
    ]  # fmt: skip
    first = found.rows[0]
    assert (first.sites, first.trainable_parameters) == (3, 3 * 4 * (16 + 16))
    assert first.share == first.trainable_parameters / llama.total_parameters
    assert (first.target_modules, first.target_parameters) == (("q_proj",), ())


def test_parameters_are_linear_in_the_rank(llama: ModuleGraph) -> None:
    """What a set says of itself gives the parameters of each of its rows."""
    found = budget(llama, ["attention", "all-linear"], range(1, 9), modules_to_save=("lm_head",))
    sets = {chosen.targets: chosen for chosen in found.sets}
    assert all(
        row.trainable_parameters == sets[row.targets].trainable_parameters(row.rank) for row in found.rows
    )
    assert sets["attention"].fixed_parameters == 30 * 16


def test_without_sets_the_common_ones_are_counted(llama: ModuleGraph) -> None:
    """A first look needs no grammar: what people compare, as far as the model has it, no set twice."""
    assert [chosen.targets for chosen in budget(llama).sets] == ["qv", "attention", "mlp", "all-linear"]
    assert {row.rank for row in budget(llama).rows} == {8, 16, 32}


def test_common_sets_leave_out_what_a_model_lacks(experts: ModuleGraph) -> None:
    """A model of experts has no dense MLP to offer, and of two equal sets one is enough."""
    assert [chosen.targets for chosen in budget(experts).sets] == ["qv", "attention", "experts", "all-linear"]
    only_attention = make_graph([make_site("layers.0.q", 8, 8, block="attention", part="q")])
    assert [chosen.targets for chosen in budget(only_attention).sets] == ["all-linear"]


def test_common_sets_of_several_towers_mean_the_language_model() -> None:
    """Where there is a vision tower, attention alone would hit it, too."""
    assert [chosen.targets for chosen in budget(tiny_graph()).sets] == [
        "text:attention.q+text:attention.v", "text:attention", "text:mlp", "text:experts", "all-linear",
    ]  # fmt: skip


def test_common_sets_that_peft_refuses_are_left_out_and_told(experts: ModuleGraph) -> None:
    """Nobody asked for them by name, so a refused one is a note; where all are refused, it is an error."""
    found = budget(experts, use_dora=True)
    assert [chosen.targets for chosen in found.sets] == ["qv", "attention"]
    refused = [note.message for note in found.notes if note.code == "set-refused"]
    assert [message.partition(":")[0] for message in refused] == ["experts", "all-linear"]
    with pytest.raises(PeftRefusal, match="DoRA"):
        budget(experts, ["qv", "experts"], use_dora=True)
    with pytest.raises(PeftRefusal, match="nowhere"):
        budget(experts, trainable_token_indices={"nowhere": (1,)})


@pytest.mark.parametrize("by", list(By))
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_dora": True},
        {"bias": "all", "modules_to_save": ("lm_head",)},
        {"trainable_token_indices": (1, 2), "lora_bias": True},
    ],
    ids=["plain", "dora", "copies", "tokens"],
)
def test_the_parts_of_a_row_add_up_to_it(by: By, options: dict[str, Any]) -> None:
    """However a row is split, its parts are all that it trains, and hold every adapted weight once."""
    graph = scan(build_tiny("phi"))
    found = budget(graph, ["attention", "all-linear@0-1"], [2, 8], by=by, **options)
    sums: Counter[tuple[str, int]] = Counter()
    sites: Counter[tuple[str, int]] = Counter()
    for part in found.parts:
        sums[part.targets, part.rank] += part.trainable_parameters
        sites[part.targets, part.rank] += part.sites
        assert (part.role is None) is (by is By.LAYER)
        assert by is not By.ROLE or part.layer is None
    assert {(row.targets, row.rank): row.trainable_parameters for row in found.rows} == sums
    assert {(row.targets, row.rank): row.sites for row in found.rows} == sites


def test_parts_without_a_role_say_why_they_are_trained() -> None:
    """Copies, biases and rows of the embedding stand beside the roles."""
    graph = scan(build_tiny("phi"))
    found = budget(
        graph, "attention.q", 2, by="role",
        bias="all", modules_to_save=("lm_head",), trainable_token_indices={"embed_tokens": (1, 2)},
    )  # fmt: skip
    sizes = {part.role: part.trainable_parameters for part in found.parts}
    assert sizes["text:attention.q"] == 3 * 2 * 32
    assert sizes["token rows"] == 2 * 16
    assert sizes["copies"] == 30 * 16 + 30
    assert sizes.keys() == {"text:attention.q", "token rows", "copies", "biases"}


def test_rslora_costs_nothing_and_dora_one_vector_a_site(llama: ModuleGraph) -> None:
    """DoRA adds a magnitude for each output; rsLoRA only scales."""
    plain, scaled, dora = (
        budget(llama, "attention.q", 4, **options).rows[0].trainable_parameters
        for options in ({}, {"use_rslora": True}, {"use_dora": True})
    )
    assert scaled == plain
    assert dora == plain + 3 * 16


def test_lists_serve_as_well_as_tuples(llama: ModuleGraph) -> None:
    """Options may come as they stand in a config file."""
    listed, frozen = (
        budget(
            llama, "attention.q", 4, modules_to_save=make(["lm_head"]), trainable_token_indices=make([1, 2])
        )
        for make in (list, tuple)
    )
    assert listed == frozen


def test_no_sets_make_an_empty_budget(llama: ModuleGraph) -> None:
    """An empty list of sets is answered, in words and on the page, by nothing."""
    found = budget(llama, [])
    assert found.rows == ()
    assert "nothing to count" in verdict(found)
    assert "nothing to count" in found._repr_html_()


def test_a_rank_pattern_holds_for_its_modules_at_every_rank(llama: ModuleGraph) -> None:
    """Other modules follow the rank, those of the pattern keep theirs."""
    found = budget(llama, "q_proj,v_proj", [1, 8], rank_pattern={"q_proj": 2})
    assert [row.trainable_parameters for row in found.rows] == [
        3 * (2 * (16 + 16) + rank * (16 + 8)) for rank in (1, 8)
    ]


def test_layers_reach_the_arguments_for_peft(llama: ModuleGraph) -> None:
    """A set in some layers is told to PEFT with these layers, and counted in them."""
    (row,) = budget(llama, "attention@0-1", 4).rows
    assert row.sites == 8
    told = LoraSettings(target_modules=row.target_modules, layers_to_transform=row.layers_to_transform)
    assert {site.layer for site in predict(llama, told).sites} == {0, 1}
    assert row.trainable_parameters == 2 * 4 * 2 * (16 + 16 + 16 + 8)


def test_a_specification_that_is_parsed_already_is_taken(llama: ModuleGraph) -> None:
    """A parsed specification costs the same as its text."""
    assert budget(llama, parse_targets("attention"), 4).rows[0].trainable_parameters == (
        budget(llama, "attention", 4).rows[0].trainable_parameters
    )


def test_the_largest_file_is_the_one_with_more_bytes_each(llama: ModuleGraph) -> None:
    """Storing adapters as bfloat16 about halves the file and changes no count."""
    wide = budget(llama, "all-linear", 64).rows[0]
    narrow = budget(llama, "all-linear", 64, dtype="bfloat16").rows[0]
    assert narrow.trainable_parameters == wide.trainable_parameters
    assert wide.adapter_bytes - narrow.adapter_bytes == pytest.approx(2 * wide.trainable_parameters, abs=64)


def _notes(graph: ModuleGraph, *arguments: Any, **options: Any) -> dict[str, str]:
    return {note.code: note.message for note in budget(graph, *arguments, **options).notes}


def test_a_head_that_peft_stores_whole_is_told(llama: ModuleGraph) -> None:
    """PEFT puts the base weights of an adapted head into the file, unless its name is given in full."""
    notes = _notes(llama, "q_proj,lm_head", 4)
    assert f"{30 * 16 * 4:,} bytes" in notes["whole-embedding"]
    assert "whole-embedding" not in _notes(llama, "q_proj", 4)


def test_a_multiplied_rank_is_told(experts: ModuleGraph) -> None:
    """Old names of fused experts get a multiple of the rank, roles do not."""
    old = budget(experts, "gate_proj,up_proj,down_proj", 4)
    new = budget(experts, "experts", 4)
    assert "gate_up_proj" in {note.code: note.message for note in old.notes}["multiplied-rank"]
    assert "multiplied-rank" not in {note.code for note in new.notes}
    assert old.rows[0].trainable_parameters > new.rows[0].trainable_parameters
    assert "peft-warning" not in {note.code for note in old.notes}, "PEFT's warning there is a false one"


def test_what_modules_to_save_takes_or_misses_is_told(llama: ModuleGraph) -> None:
    """PEFT silently drops a target that is saved in full, and a name that is no module."""
    notes = _notes(llama, "q_proj,lm_head", 4, modules_to_save=("lm_head", "nowhere"))
    assert "leaves out 1 of 4" in notes["not-adapted"]
    assert "nowhere" in notes["nothing-to-save"]


def test_a_rank_beyond_the_weights_is_told(llama: ModuleGraph) -> None:
    """Where a weight has no more rows or columns than the rank, LoRA is larger than it."""
    assert "3 of 6 weights" in _notes(llama, "q_proj,v_proj", 8)["full-rank"]
    assert "full-rank" not in _notes(llama, "q_proj,v_proj", 7)


def test_json_has_the_keys_that_scripts_rely_on(llama: ModuleGraph) -> None:
    """The document is plain JSON with the agreed keys, and its sizes are exact integers."""
    document = json.loads(budget(llama, "attention", 4, max_parameters="1M").to_json())
    assert document["model"] == llama.model
    assert document.keys() >= {"model", "rows", "sets", "limit", "unfit", "parts", "notes", "versions"}
    (row,) = document["rows"]
    assert row.keys() >= ROW_KEYS
    assert all(
        isinstance(row[name], int) for name in ("rank", "sites", "trainable_parameters", "adapter_bytes")
    )
    assert row["target_modules"] == ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert document["limit"] == {"unit": "parameters", "value": 1_000_000, "equal_to": None}


def test_frames_hold_rows_and_parts(llama: ModuleGraph) -> None:
    """Each row or part is one line, with nullable integers where something can be missing."""
    found = budget(llama, "attention", [4, 8], by="role-layer")
    frame = found.to_frame()
    assert list(frame["trainable_parameters"]) == [row.trainable_parameters for row in found.rows]
    assert frame["left_over"].isna().all()
    parts = found.parts_to_frame()
    assert parts.groupby("rank")["trainable_parameters"].sum().to_dict() == {
        row.rank: row.trainable_parameters for row in found.rows
    }
    assert str(parts["layer"].dtype) == "Int64"
    assert budget(llama, "attention", 4).parts_to_frame().empty


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"targets": "attention.q", "ranks": 0}, BadRank),
        ({"targets": "attention.q", "ranks": []}, BadRank),
        ({"targets": "attention.q", "ranks": 2**40}, BadRank),
        ({"targets": "nowhere"}, UnmatchedTarget),
        ({"targets": ["attention", "experts"]}, UnmatchedTarget),
        ({"targets": "q_proj,nowhere"}, UnmatchedTarget),
        ({"dtype": "int4"}, UnknownChoice),
        ({"by": "colour"}, UnknownChoice),
        ({"use_dorra": True}, UnknownChoice),
        ({"rank_pattern": {"q_proj": 2**62}}, BadRank),
        ({"bias": "some"}, PeftRefusal),
        ({"use_dora": True, "lora_bias": True}, PeftRefusal),
        ({"max_parameters": 5, "max_adapter_size": 5}, ConflictingOptions),
        ({"equal_to": "nowhere:r=8"}, UnmatchedTarget),
    ],
    ids=str,
)
def test_bad_questions_get_one_sentence(
    arguments: dict[str, Any], error: type[LoraProbeError], llama: ModuleGraph
) -> None:
    """What cannot be answered is refused with a reason, and nothing is counted in its place."""
    with pytest.raises(error) as caught:
        budget(llama, **arguments)
    assert str(caught.value)


def test_a_rank_that_convolutions_refuse_is_refused() -> None:
    """PEFT takes only multiples of a convolution's groups: asked for another rank, we say so before it."""
    graph = make_graph(
        [make_site("conv", 9, 64, kind=Kind.CONV, groups=32, shape=(64, 1, 3, 3), part="conv")]
    )
    assert budget(graph, "name:conv", 64).rows[0].rank == 64
    with pytest.raises(PeftRefusal, match="32 groups"):
        budget(graph, "name:conv", 8)
    with pytest.raises(PeftRefusal, match="32 groups"):
        budget(graph, "name:conv", 8, max_parameters="1M")


def test_the_function_is_public() -> None:
    """`lora_probe.budget` is the function, whatever modules there are."""
    assert lora_probe.budget is budget
    assert {"budget", "Budget"} <= set(lora_probe.__all__)
