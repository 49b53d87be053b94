"""What may be handed to a check, and how bad targets and options end: in one sentence."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_probe.checks import Severity, check
from lora_probe.checks.serving import ENGINES
from lora_probe.errors import (
    BadAdapter,
    BadRank,
    BadTargets,
    LoraProbeError,
    PeftRefusal,
    TargetSyntaxError,
    UnmatchedTarget,
)
from lora_probe.peft_rules import LoraSettings
from tests.check_cases import GEMMA_3, LLAMA, QWEN_MOE, graph_of


@pytest.mark.parametrize(
    "targets",
    [
        "q_proj,v_proj",
        '["q_proj", "v_proj"]',
        r".*\.(q|v)_proj",
        r"re:.*\.(q|v)_proj",
        "attention.q+attention.v",
        "qv",
        "attention - attention.k - attention.o",
        ["v_proj", "q_proj"],
        ("q_proj", "v_proj"),
        {"r": 8, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "peft_type": "LORA"},
        LoraSettings(rank=8, alpha=8, target_modules=("q_proj", "v_proj")),
    ],
    ids=str,
)
def test_every_form_of_one_target_set_is_the_same_request(targets: Any) -> None:
    """Names, JSON, expressions, roles, presets and PEFT's own configs lead to the same adapters."""
    found = check(graph_of(LLAMA), targets, rank=8)
    assert found.matched == 44
    assert not found.errors


@pytest.mark.parametrize(
    ("targets", "error"),
    [
        ("", TargetSyntaxError),
        ("   ", TargetSyntaxError),
        ("attention.q++", TargetSyntaxError),
        ("attention.q@", TargetSyntaxError),
        ("attenton:q", TargetSyntaxError),
        ("[1, 2]", BadTargets),
        ('["q_proj"', BadTargets),
        ("[]", BadTargets),
        ("text:router", UnmatchedTarget),
        ([], BadTargets),
        ([None], BadTargets),
        (7, BadTargets),
        (b"q_proj", BadTargets),
        ({"r": "eight"}, BadAdapter),
        ({"r": 8, "peft_type": "VERA"}, BadAdapter),
    ],
    ids=repr,
)
def test_targets_that_cannot_be_read_end_in_one_sentence(targets: Any, error: type[LoraProbeError]) -> None:
    """Each wrong form is an error of this package that says what is wrong with it."""
    with pytest.raises(error) as caught:
        check(graph_of(LLAMA), targets)
    assert str(caught.value)


@pytest.mark.parametrize("rank", [0, -1, 10**9, 2.5, True, "8", None])
def test_a_rank_that_no_adapter_can_have_is_refused(rank: Any) -> None:
    """Zero, negative, absurd and non-integer ranks are named."""
    with pytest.raises(BadRank, match="rank must be"):
        check(graph_of(LLAMA), "q_proj", rank=rank)


def test_an_unknown_option_names_the_known_ones() -> None:
    """A misspelt option is an error, not a silent default."""
    with pytest.raises(BadTargets, match=r"'use_rlora': is no option of a check; close names: use_rslora"):
        check(graph_of(LLAMA), "q_proj", use_rlora=True)


def test_what_peft_refuses_for_any_model_is_an_error() -> None:
    """Settings that exclude each other are no finding about this model."""
    with pytest.raises(PeftRefusal, match="layers_to_transform"):
        check(graph_of(LLAMA), r".*\.q_proj", layers_to_transform=(1,))


def test_a_broken_expression_is_a_finding() -> None:
    """An expression that does not compile is reported as what PEFT will raise for."""
    found = check(graph_of(LLAMA), ".*(q_proj")
    assert [finding.rule for finding in found] == ["peft-refuses"]
    assert found.findings[0].fix == "correct the regular expression"


def test_an_expression_of_a_later_python_is_no_warning() -> None:
    """What re calls a possible nested set is matched without a word, as filterwarnings=error would tell."""
    assert check(graph_of(LLAMA), ".*[_[]?q_proj").matched == 22


@pytest.mark.parametrize("option", [{"alpha": float("nan")}, {"alpha": "16"}, {"dropout": float("inf")}])
def test_a_number_that_is_none_is_refused(option: dict[str, Any]) -> None:
    """Alpha and dropout are finite numbers; the error names the option."""
    with pytest.raises(BadTargets, match=f"'{next(iter(option))}': must be a finite number"):
        check(graph_of(LLAMA), "q_proj", **option)


def test_a_chosen_tower_is_no_accident() -> None:
    """Whoever names towers is not warned of hitting them."""
    graph = graph_of(GEMMA_3)
    assert "wrong-tower" in check(graph, "attention").rules
    assert "wrong-tower" not in check(graph, "text:attention+vision:attention").rules


def test_roles_that_leave_experts_out_are_no_error() -> None:
    """attention+mlp on a mixture of experts is what it says; that experts are another role is a warning."""
    graph = graph_of("deepseek-ai/DeepSeek-V3")
    (missed,) = check(graph, "attention+mlp").of("experts-missed")
    assert (missed.severity, missed.fix) == (Severity.WARNING, "add the role experts")
    assert "experts-missed" not in check(graph, "attention").rules


def test_roles_reach_exactly_what_they_say() -> None:
    """A role on a rewritten mixture of experts is emitted so that PEFT's rewriting does not widen it."""
    found = check(graph_of(QWEN_MOE), "attention.q@0-3", rank=8)
    assert found.matched == 4
    assert not [finding for finding in found if finding.severity is not Severity.INFO]


_CHARACTERS = list("qkv_proj,.*|()[]{}+-@:\\0123456789^$? \x1b\u202e\"'")


@settings(max_examples=300)
@given(text=st.text(st.sampled_from(_CHARACTERS), max_size=30))
def test_any_text_is_answered_or_refused(text: str) -> None:
    """Whatever is typed, there is an answer or an error of this package."""
    with suppress(LoraProbeError):
        assert check(graph_of("tiny llama"), text, serve=tuple(ENGINES)).to_json()
