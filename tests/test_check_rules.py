"""Every rule is documented, fires where it should, and is silent where its fix was applied."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import lora_probe
from lora_probe.checks import Findings, Severity, check, explain, rules
from lora_probe.errors import UnknownEngine, UnknownRule
from lora_probe.graph import Note
from tests.check_adapters import ADAPTERS
from tests.check_cases import CASES, GPT_2, GPT_OSS, LLAMA, QV, QWEN_MOE, Example, graph_of

if TYPE_CHECKING:
    from pathlib import Path


def run(example: Example, folder: Path) -> Findings:
    """Check one example; its adapter, if any, is written to `folder`."""
    if example.model == "Qwen/Qwen-7B built as another":
        graph = replace(graph_of(LLAMA), notes=(Note(code="other-class", message="built as another class"),))
    else:
        graph = graph_of(example.model)
    options = dict(example.options)
    if example.adapter:
        ADAPTERS[example.adapter](folder)
        options["adapter"] = folder
    return check(graph, example.targets, **options)


def test_every_rule_has_both_examples() -> None:
    """No rule is without a case that shows it and one that does not, and no case without its rule."""
    assert CASES.keys() == rules().keys()


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_rule_finds_its_case(name: str, tmp_path: Path) -> None:
    """On the architecture that has the pain, the rule reports it, with a one-line fix."""
    found = run(CASES[name][0], tmp_path).of(name)
    assert found
    for finding in found:
        assert finding.message
        assert finding.fix
        assert "\n" not in finding.message + finding.fix


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_rule_is_silent_elsewhere(name: str, tmp_path: Path) -> None:
    """With the fix applied, or on a model without the pain, the rule says nothing."""
    assert not run(CASES[name][1], tmp_path).of(name)


@pytest.mark.parametrize("name", sorted(rules()))
def test_the_rule_is_explained(name: str) -> None:
    """The explanation says what happens, why, how to fix it, and where that is known from."""
    rule, text = rules()[name], explain(name)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)+", name)
    assert text.startswith(f"{name} ({rule.severity})")
    for part in ("What happens: ", "Why: ", "How to fix it: ", "Source: "):
        assert re.search(rf"^{part}\S", text, re.MULTILINE)
    assert all(re.search(r"#\d+|\.py|et al\.", source) for source in rule.sources)


def test_an_unknown_rule_names_those_that_look_like_it() -> None:
    """A misspelt rule is an error with near misses."""
    with pytest.raises(UnknownRule, match="close names: dead-adapter"):
        explain("dead-adaptor")


def test_an_unknown_engine_names_the_known_ones() -> None:
    """A misspelt engine is an error that lists all engines."""
    with pytest.raises(UnknownEngine, match=r"'vlm'; known: vllm, sglang, llama\.cpp, tgi, lorax"):
        check(graph_of(LLAMA), QV, serve=["vlm"])


def test_what_everybody_serves_passes_all_engines() -> None:
    """The seven projections at rank 16 without options have nothing but hints on how to start a server."""
    found = check(
        graph_of(LLAMA),
        "attention+mlp",
        rank=16,
        serve=("vllm", "sglang", "llama.cpp", "tgi", "lorax"),
    )
    assert {finding.severity for finding in found} <= {Severity.INFO}
    assert found.matched == 22 * 7


def test_the_figures_are_those_of_the_prediction() -> None:
    """The number of adapters and of parameters comes with the findings, and is 0 where PEFT refuses."""
    found = check(graph_of(LLAMA), QV, rank=8)
    assert (found.matched, found.trainable_parameters) == (44, 22 * 8 * (2 * 2048 + 2048 + 256))
    refused = check(graph_of(LLAMA), ["self_attn"], rank=8)
    assert (refused.matched, refused.trainable_parameters) == (0, 0)


def test_errors_come_first() -> None:
    """Findings are ordered by severity, and the JSON document has the fields that scripts rely on."""
    found = check(graph_of(QWEN_MOE), "q_proj,k_prj,gate_proj,up_proj,down_proj", rank=16, serve="vllm")
    order = [list(Severity).index(finding.severity) for finding in found]
    assert order == sorted(order)
    assert len(set(order)) == 3
    document = found.to_dict()
    assert {"matched", "trainable_parameters", "findings"} <= document.keys()
    assert all(
        entry.keys() == {"rule", "severity", "message", "paths", "fix"} for entry in document["findings"]
    )


def test_a_frame_has_one_row_a_finding() -> None:
    """The table for notebooks counts the paths and shows the first."""
    found = check(graph_of(GPT_OSS), "all-linear", rank=16)
    frame = found.to_frame()
    assert list(frame.rule) == [finding.rule for finding in found]
    missed = frame.set_index("rule").loc["experts-missed"]
    assert missed["count"] == 48
    assert missed.first_path == "model.layers.0.mlp.experts.gate_up_proj"


def test_the_targets_may_be_a_lora_config() -> None:
    """PEFT's own config object, its dictionary and the same list by hand are one request."""
    from peft import LoraConfig

    config = LoraConfig(r=8, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    by_hand = check(graph_of(LLAMA), QV, rank=8)
    for given in (config, config.to_dict()):
        found = lora_probe.check(graph_of(LLAMA), given)
        assert found.findings == by_hand.findings
        assert found.trainable_parameters == by_hand.trainable_parameters


def test_tied_embeddings_with_tying_are_explained() -> None:
    """With ensure_weight_tying the finding is only that PEFT counts the adapter twice."""
    found = check(graph_of(GPT_2), "c_attn,wte", ensure_weight_tying=True)
    assert [finding.severity for finding in found.of("tied-weights")] == [Severity.INFO]


def test_a_name_that_only_exists_in_other_layers_is_told_apart() -> None:
    """A name that matches, but in none of the chosen layers, is reported as that."""
    found = check(graph_of(LLAMA), ["q_proj", "v_proj"], layers_to_transform=(99,))
    assert all("layers that are not transformed" in finding.message for finding in found.of("unmatched-name"))
    assert len(found.of("unmatched-name")) == 2


def test_the_fix_for_fused_projections_names_the_fused_layer() -> None:
    """Llama's names on GPT-NeoX are answered with the one layer that holds all three."""
    found = check(graph_of("EleutherAI/pythia-1b"), "q_proj,v_proj,dense")
    assert [finding.fix for finding in found.of("unmatched-name")] == [
        'write "query_key_value", which holds attention.q here',
        'write "query_key_value", which holds attention.v here',
    ]


def test_the_scale_for_llama_cpp_is_exact() -> None:
    """With rsLoRA at rank 16 and alpha 16, alpha 64 gives llama.cpp the factor that PEFT used."""
    found = check(graph_of(LLAMA), QV, rank=16, use_rslora=True, serve="llama.cpp")
    assert "by 1 instead of 4" in found.of("llama-cpp-scale")[0].message
    assert "set lora_alpha to 64 " in found.of("llama-cpp-scale")[0].fix
