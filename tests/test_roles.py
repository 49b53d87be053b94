"""Laws that every assignment of roles obeys, whatever the model."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_probe import Kind
from lora_probe.roles import REASONS, Place, Role, assign_roles, decisions, explain_roles
from lora_probe.roles.blocks import MODULES, WEIGHTS
from lora_probe.roles.decisions import layer_of
from lora_probe.roles.projections import PROJECTIONS
from lora_probe.roles.towers import TOWERS as TOWER_TABLE
from lora_probe.roles.vocabulary import BLOCKS, PARTS, TOWERS

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES = st.sampled_from([
    "model", "layers", "layer", "h", "0", "1", "7", "self_attn", "attention", "output", "intermediate",
    "mlp", "ffn", "experts", "expert_3", "gate", "router", "shared_expert", "q_proj", "query", "qkv",
    "o_proj", "dense", "gate_proj", "up_proj", "down_proj", "fc1", "fc2", "w1", "w2", "w3", "mamba",
    "in_proj", "conv1d", "out_proj", "vision_tower", "language_model", "multi_modal_projector",
    "encoder", "decoder", "embed_tokens", "wte", "embeddings", "head", "lm_head", "lora_A", "default",
    "base_layer", "modules_to_save", "linear", "07", "٣", "99999999999999",
])  # fmt: skip
CLASSES = st.sampled_from([
    "", "ModuleList", "Linear", "LlamaModel", "LlamaDecoderLayer", "LlamaAttention", "BertSelfOutput",
    "BertOutput", "MixtralSparseMoeBlock", "FooCrossAttention", "MambaMixer", "CLIPVisionModel",
    "Conv2d", "Embedding", "Model",
])  # fmt: skip
SIZES = st.sampled_from([1, 3, 8, 64, 128, 192, 256, 768, 32000])


@st.composite
def place_lists(draw: st.DrawFn) -> list[Place]:
    """Draw the weights of a model: distinct paths, each module with one class."""
    paths = draw(st.lists(st.lists(NAMES, max_size=6).map(".".join), max_size=12, unique=True))
    classes: dict[str, str] = {}
    places = []
    for path in paths:
        segments = path.split(".") if path else []
        above = [".".join(segments[:length]) for length in range(len(segments) + 1)]
        for module in above:
            classes.setdefault(module, draw(CLASSES))
        kind = draw(st.sampled_from(Kind))
        bare = kind in {Kind.EXPERT_PARAMETER, Kind.MATRIX_PARAMETER}
        places.append(
            Place(
                path=path,
                classes=tuple(classes[module] for module in above),
                parameter=draw(NAMES) if bare or not path else "weight",
                kind=kind,
                in_features=draw(SIZES),
                out_features=draw(SIZES),
                is_input_embedding=draw(st.booleans()),
                is_output_embedding=draw(st.booleans()),
            )
        )
    return places


def roles_of(places: Sequence[Place]) -> list[Role]:
    """Return the roles of a model without a name."""
    return assign_roles(places, model_type="", architecture="")


def llama_layer(index: int) -> list[Place]:
    """Return the weights of one layer of a Llama."""
    parts = {
        "self_attn": ("LlamaAttention", ["q_proj", "k_proj", "v_proj", "o_proj"]),
        "mlp": ("LlamaMLP", ["gate_proj", "up_proj", "down_proj"]),
    }
    above = ("LlamaForCausalLM", "LlamaModel", "ModuleList", "LlamaDecoderLayer")
    return [
        Place(
            path=f"model.layers.{index}.{module}.{name}",
            classes=(*above, class_name, "Linear"),
            parameter="weight",
            kind=Kind.LINEAR,
            in_features=64,
            out_features=64,
        )
        for module, (class_name, names) in parts.items()
        for name in names
    ]


@given(place_lists())
def test_every_word_is_in_the_vocabulary(places: list[Place]) -> None:
    """Any tree of names gets one role a weight: known tower and block, standard part or own name."""
    roles = roles_of(places)
    assert len(roles) == len(places)
    for place, role in zip(places, roles, strict=True):
        assert role.tower in TOWERS
        assert role.block in BLOCKS
        assert role.part in PARTS.get(role.block, {}) or role.part in {
            *place.path.split("."),
            place.parameter,
        }


@given(place_lists())
def test_deciding_alike_entries_once_changes_nothing(places: list[Place]) -> None:
    """Entries of a list that look alike would have had the same roles, decided one by one."""
    copies = [replace(place, path=re.sub(r"(?<![^.])0(?![^.])", "5", place.path)) for place in places]
    places += [copy for copy in copies if copy.path not in {place.path for place in places}]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decisions, "fold", lambda each: list(range(len(each))))
        one_by_one = roles_of(places)
    assert roles_of(places) == one_by_one


@given(st.integers(1, 40))
def test_more_layers_change_nothing(layers: int) -> None:
    """The roles within a layer do not depend on how many layers there are."""
    first = [(role.block, role.part) for role in roles_of(llama_layer(0))]
    roles = roles_of([place for index in range(layers) for place in llama_layer(index)])
    assert [(role.block, role.part) for role in roles] == first * layers
    assert [role.layer for role in roles[:: len(first)]] == [*range(layers)]


@given(place_lists())
def test_explanations_name_rules(places: list[Place]) -> None:
    """An explanation holds the same role, and the name of what decided each of its words."""
    explained = explain_roles(places, model_type="", architecture="")
    assert [decision.role for decision in explained] == roles_of(places)
    for decision in explained:
        assert {decision.tower, decision.block, decision.part} <= REASONS.keys()


def test_an_explanation_is_readable() -> None:
    """The rules that decide about a Llama's projections are the ones a reader would expect."""
    explained = explain_roles(llama_layer(3), model_type="llama", architecture="LlamaForCausalLM")
    assert (explained[0].tower, explained[0].block, explained[0].part) == (
        "named-for-its-input", "self-attention", "q-by-name",
    )  # fmt: skip


@pytest.mark.parametrize("table", [TOWER_TABLE, MODULES, WEIGHTS])
def test_rules_use_the_vocabulary(table: object) -> None:
    """Every rule of a table has its own name, a reason, patterns that compile, and known words."""
    words = TOWERS if table is TOWER_TABLE else BLOCKS
    rules = table.rules  # type: ignore[attr-defined]
    assert len({rule.name for rule in rules}) == len(rules)
    for rule in rules:
        assert rule.reason
        assert {rule.word, *rule.inside, *rule.outside} <= {*words, ""}
        for pattern in (rule.named, rule.classed, rule.beside, rule.apart, rule.under):
            re.compile(pattern)


def test_a_rule_has_one_reason() -> None:
    """No two rules of different tables share a name, unless for the same reason."""
    rules = [rule for table in (TOWER_TABLE, MODULES, WEIGHTS) for rule in table.rules]
    parts = [rule for table in PROJECTIONS.values() for rule in table]
    assert {(rule.name, rule.reason) for rule in (*rules, *parts)} <= REASONS.items()


def test_parts_use_the_vocabulary() -> None:
    """Every rule for parts says a standard part of its block, and every standard part has a rule."""
    for block, rules in PROJECTIONS.items():
        assert {rule.part for rule in rules} == {*PARTS[block]}
        assert all(rule.reason for rule in rules)


@given(st.lists(NAMES, min_size=1, max_size=7).map(".".join))
def test_layers_are_read_as_peft_reads_them(path: str) -> None:
    """Inside of a model, the layer is what PEFT compares with layers_to_transform: the first number."""
    found = re.match(r".*?\.[^.]*\.([0-9]{1,9})\.", f"model.list.{path}")
    assert layer_of(f"model.list.{path}") == (int(found[1]) if found else None)


def test_an_empty_model_has_no_roles() -> None:
    """No weights, no roles, no error."""
    assert roles_of([]) == []
