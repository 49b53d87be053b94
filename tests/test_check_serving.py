"""Serving engines: the smallest edit that a finding names makes the adapter servable."""

from __future__ import annotations

import re
from typing import Any

import pytest

from lora_probe.checks import Severity, check
from lora_probe.checks.serving import ENGINES
from tests.check_cases import GEMMA_3, LLAMA, QV, QWEN, SEVEN, graph_of

BERT = "google-bert/bert-base-uncased"
LESS = {"rank_pattern": {"v_proj": 4}}
BAD: dict[str, tuple[str, Any, dict[str, Any], dict[str, Any]]] = {
    "dora": (LLAMA, QV, {"use_dora": True}, {}),
    "bias": (LLAMA, QV, {"bias": "all"}, {}),
    "modules": (LLAMA, QV, {"modules_to_save": ("embed_tokens",)}, {}),
    "tokens": (LLAMA, QV, {"trainable_token_indices": (3,)}, {}),
    "alphas": (LLAMA, QV, {"alpha_pattern": {"v_proj": 99}}, {}),
    "ranks": (LLAMA, QV, LESS, {**LESS, "alpha_pattern": {"v_proj": 4}}),
    "towers": (GEMMA_3, QV, {}, {"exclude_modules": r"(model\.vision_tower)(\..*)?"}),
}  # fmt: skip
"""Targets and options that engines do not take, and the options with the finding's fix applied."""


HARMLESS = {("llama.cpp", "ranks"), ("sglang", "bias")}
"""Read tensor by tensor, and not known to hurt."""


@pytest.mark.parametrize(
    ("engine", "pain"), sorted({(engine, pain) for engine in ENGINES for pain in BAD} - HARMLESS)
)
def test_the_edit_makes_it_servable(engine: str, pain: str) -> None:
    """What an engine objects to is gone with the fix, and nothing but hints is left."""
    model, targets, options, edited = BAD[pain]
    before = check(graph_of(model), targets, rank=8, serve=engine, **options)
    after = check(graph_of(model), targets, rank=8, serve=engine, **edited)
    objections = [finding for finding in before if finding.rule.startswith(engine.replace(".", "-"))]
    assert any(finding.severity is not Severity.INFO for finding in objections)
    assert {finding.severity for finding in after} <= {Severity.INFO}


def test_rslora_becomes_an_alpha_that_llama_cpp_reads() -> None:
    """With the alpha and the switch that the finding names, the factor is PEFT's own and nothing is left."""
    options: dict[str, Any] = {"rank": 16, "use_rslora": True}
    (finding,) = check(graph_of(LLAMA), QV, serve="llama.cpp", **options).of("llama-cpp-scale")
    found = re.search(r"set lora_alpha to (\d+) and use_rslora to false", finding.fix)
    assert found
    assert not check(graph_of(LLAMA), QV, rank=16, alpha=float(found[1]), serve="llama.cpp").findings


def test_no_alpha_is_offered_where_none_would_do() -> None:
    """Layers with alphas of their own have no common one for llama.cpp."""
    found = check(graph_of(LLAMA), QV, alpha_pattern={"v_proj": 99}, serve="llama.cpp")
    (finding,) = found.of("llama-cpp-scale")
    assert finding.fix.startswith("no single lora_alpha suits all layers")


def test_lorax_adapts_the_head_of_two_families() -> None:
    """lm_head is loaded for Llama and Mistral, and ignored elsewhere."""
    targets = f"{SEVEN},lm_head"
    assert "lorax-layers" not in check(graph_of(LLAMA), targets, serve="lorax").rules
    (finding,) = check(graph_of(QWEN), targets, serve="lorax", ensure_weight_tying=True).of("lorax-layers")
    assert "lm_head" in finding.message


def test_what_peft_saves_for_a_task_is_refused_too() -> None:
    """SEQ_CLS puts the head into modules_to_save by itself, which the adapter's config then says."""
    found = check(graph_of(BERT), "query,value", task_type="TOKEN_CLS", serve="vllm")
    assert "vllm-modules-to-save" in found.rules
    assert "vllm-modules-to-save" not in check(graph_of(BERT), "query,value", serve="vllm").rules


def test_an_expression_of_nothing_has_no_names_to_write() -> None:
    """SGLang's advice to write names is given only where there are any."""
    found = check(graph_of(LLAMA), r".*\.nothing", serve="sglang")
    assert not found.of("sglang-expression")
    (finding,) = check(graph_of(LLAMA), r".*\.(q|v)_proj", serve="sglang").of("sglang-expression")
    assert finding.fix.endswith(": q_proj, v_proj")
