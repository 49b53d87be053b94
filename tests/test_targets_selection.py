"""Resolving: which sites a specification selects, and what is said where it selects none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lora_probe import ModuleGraph, resolve, scan
from lora_probe.errors import PeftRefusal, SlowExpression, TargetSyntaxError, UnmatchedTarget
from lora_probe.graph import Kind
from lora_probe.peft_rules import LoraSettings, predict
from tests.handmade import make_graph, make_site, tiny_graph


def _paths(graph: ModuleGraph, spec: str) -> list[str]:
    return [
        site.parameter.removesuffix(".weight").removeprefix("model.layers.") for site in resolve(graph, spec)
    ]


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        ("mlp", ["0.mlp.up_proj", "0.mlp.down_proj"]),
        ("mlp.down", ["0.mlp.down_proj"]),
        ("attention.q+attention.v@first:1", ["0.self_attn.q_proj", "0.self_attn.v_proj", "1.self_attn.q_proj",
                                              "2.self_attn.q_proj", "3.self_attn.q_proj"]),
        ("qkvo@2", ["2.self_attn.q_proj", "2.self_attn.k_proj", "2.self_attn.v_proj", "2.self_attn.o_proj"]),
        ("experts.down@last:2", ["2.mlp.experts.down_proj", "3.mlp.experts.down_proj"]),
        ("experts@odd - experts.down", ["1.mlp.experts.gate_up_proj", "3.mlp.experts.gate_up_proj"]),
        ("vision:", ["vision.layers.0.attn.qkv"]),
        ("vision:conv", ["vision.patch"]),
        ("text:head", ["lm_head"]),
        ("router@3", ["3.mlp.gate"]),
        ("embedding", ["model.embed_tokens"]),
        ("name:mlp.experts.down_proj@1", ["1.mlp.experts.down_proj"]),
        ("name:self_attn.o_proj@3", ["3.self_attn.o_proj"]),
        ("name:lm_head.weight", ["lm_head"]),
        ("q_proj,lm_head@2,3", ["2.self_attn.q_proj", "3.self_attn.q_proj"]),
        (r"re:.*\.[01]\..*(k|v)_proj", ["0.self_attn.k_proj", "0.self_attn.v_proj", "1.self_attn.k_proj",
                                       "1.self_attn.v_proj"]),
    ],
)  # fmt: skip
def test_a_specification_selects_exactly_these(spec: str, paths: list[str]) -> None:
    """Roles, names, expressions and layers select the sites they say, in the order of the model."""
    assert _paths(tiny_graph(), spec) == paths


def test_all_linear_leaves_out_the_output_embedding_and_what_is_a_parameter() -> None:
    """PEFT's shorthand takes linear modules of all towers, but no output embedding, experts or routers."""
    graph = replace(tiny_graph(), output_embedding="lm_head")
    assert {site.kind for site in resolve(graph, "all-linear")} == {Kind.LINEAR}
    assert len(resolve(graph, "all-linear")) == 4 * 4 + 2 + 1


def test_last_layers_are_those_of_the_tower() -> None:
    """The last layer counts within a tower, and over layers that the selector does not select, too."""
    sites = [make_site(f"model.layers.{layer}.mlp.up", 8, 8) for layer in range(6)]
    sites += [
        make_site(f"model.layers.{layer}.attn.q", 8, 8, block="attention", part="q") for layer in (0, 3)
    ]
    sites += [
        make_site(f"vision.layers.{layer}.attn.q", 8, 8, tower="vision", block="attention", part="q")
        for layer in range(3)
    ]
    graph = make_graph(sites)
    assert _paths(graph, "attention@last:3") == [
        "3.attn.q",
        *(f"vision.layers.{layer}.attn.q" for layer in range(3)),
    ]
    assert _paths(graph, "attention@last:1") == ["vision.layers.2.attn.q"]


def test_a_tower_alone_leaves_routers_and_the_output_embedding_out() -> None:
    """What a tower selects is what one usually adapts: its matrices and experts."""
    graph = replace(tiny_graph(), output_embedding="lm_head")
    assert {site.block for site in resolve(graph, "text:")} == {"attention", "mlp", "experts"}


def test_a_convolution_inside_a_matrix_block_is_selected_by_its_part_only() -> None:
    """`ssm` is the projections of a mixer; its short convolution must be asked for."""
    graph = make_graph(
        [
            make_site("layers.0.in_proj", 8, 8, block="ssm", part="in"),
            make_site("layers.0.conv1d", 4, 8, kind=Kind.CONV, block="ssm", part="conv", groups=8),
        ]
    )
    assert _paths(graph, "ssm") == ["layers.0.in_proj"]
    assert _paths(graph, "ssm.conv") == ["layers.0.conv1d"]


@pytest.mark.parametrize(
    ("spec", "target", "position", "near"),
    [
        ("q_proj,v_porj", "v_porj", 7, "v_proj"),
        ("mlp+attention.qkvo", "attention.qkvo", 4, "attention.q"),
        ("mlp.gate", "mlp.gate", 0, "mlp.up"),
        ("cross_attention", "cross_attention", 0, "attention"),
        ("gate_up_proj", "gate_up_proj", 0, "name:gate_up_proj"),
        ("attention+mlp@1-3", "mlp@1-3", 10, None),
        ("mlp-attention", "attention", 4, None),
        ("mlp.up-mlp", "mlp", 7, None),
        ("vision:attention.q", "vision:attention.q", 0, "vision:attention.qkv"),
        (r"attention+re:.*\.z", 're:".*\\.z"', 10, None),
    ],
)
def test_a_part_that_matches_nothing_is_an_error_at_its_place(
    spec: str, target: str, position: int, near: str | None
) -> None:
    """PEFT passes over a name that matches nothing; here an error points at it and names near misses."""
    with pytest.raises(UnmatchedTarget) as caught:
        resolve(tiny_graph(), spec)
    assert (caught.value.target, caught.value.position) == (target, position)
    assert near is None or near in caught.value.near
    assert str(caught.value).splitlines()[-1] == "  " + " " * position + "^"


def test_a_role_in_a_list_of_names_is_explained() -> None:
    """Commas join names, as PEFT reads them; who meant a role is told how to join roles."""
    with pytest.raises(UnmatchedTarget, match=r"join roles with \+"):
        resolve(tiny_graph(), "q_proj,mlp.down")


def test_weights_that_peft_cannot_adapt_are_said_to_be_so() -> None:
    """A role that is there, but on weights without an adapter, is no spelling mistake."""
    graph = make_graph(
        [make_site("lstm", 8, 8, kind=Kind.MATRIX_PARAMETER, block="recurrent", adaptable=None)]
    )
    with pytest.raises(UnmatchedTarget, match="1 weights, none of which PEFT can adapt"):
        resolve(graph, "recurrent")


@pytest.mark.parametrize(
    ("wanted", "near"),
    [
        ("Attention.Q", "attention.q"),
        ("atention", "attention"),
        ("text", "text:"),
        ("text:atention.q+mlp", "close: attention"),
        ("Q_PROJ", "q_proj"),
        ("x" * 10**6 + "+mlp", None),
    ],
)
def test_near_misses_are_what_was_meant(wanted: str, near: str | None) -> None:
    """Blocks, towers and other cases count among what is near; a huge name is compared by its start."""
    with pytest.raises((UnmatchedTarget, TargetSyntaxError)) as caught:
        resolve(tiny_graph(), wanted)
    assert near is None or near in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_roles_in_lists_are_explained_as_presets_are() -> None:
    """A list from Python holds names only, and ``q,v`` are names: who meant roles is told so."""
    for targets in (["attention"], "q,v"):
        with pytest.raises(UnmatchedTarget, match=r"join roles with \+"):
            resolve(tiny_graph(), targets)


def test_what_peft_would_refuse_is_refused() -> None:
    """A module without an adapter is an error of the same kind before PEFT sees it."""
    with pytest.raises(PeftRefusal, match="it has no LoRA layer for"):
        resolve(scan("openai-community/gpt2"), "ln_f")


@pytest.mark.parametrize(
    "fields",
    [
        {"target_modules": "(.+)+x"},
        {"target_modules": "all-linear", "exclude_modules": "(.+)+x"},
        {"target_modules": ("q_proj",), "modules_to_save": ("(.+)+x",)},
        {"target_modules": ("q_proj",), "rank_pattern": {"(.+)+x": 2}},
    ],
)
def test_an_expression_without_end_is_given_up(
    fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's matcher knows no limit of time, so that PEFT would hang; here a sentence names the culprit."""
    monkeypatch.setattr("lora_probe.peft_rules.patience.SECONDS", 0.2)
    with pytest.raises(SlowExpression, match=r"matching .*\(\.\+\)\+x takes more than 0\.2 s"):
        predict(tiny_graph(), LoraSettings(**fields))


def test_thousands_of_harmless_expressions_are_not_blamed_for_repeats(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where their number takes the time, the sentence says so, and names no culprit."""
    monkeypatch.setattr("lora_probe.peft_rules.patience.SECONDS", 0.01)
    ranks = {f"layers.{number}.q_proj": 4 for number in range(20_000)}
    with pytest.raises(
        SlowExpression, match=r"matching 20,000 expressions takes .* on every module"
    ) as error:
        predict(tiny_graph(), LoraSettings(target_modules=("q_proj",), rank_pattern=ranks))
    assert "repeat" not in str(error.value)


def test_some_expressions_are_not_said_to_be_all() -> None:
    """Of more than three, the others are counted: the culprit may be among them."""
    error = SlowExpression(expressions=["a", "b", "c", "d"], seconds=10)
    assert "matching a or b or c or one of 1 more takes more than 10 s" in str(error)
