"""Fixes of the lints on the models of the catalogue: applied as they are written, they end the finding."""

from __future__ import annotations

from typing import Any

import pytest

from lora_probe.checks import Severity, check
from lora_probe.checks.dry_run import dry_run
from lora_probe.source import locate
from lora_probe.source.build import build
from tests.check_cases import GEMMA_4, GPT_OSS, LLAMA, NEMOTRON, QWEN, QWEN_MOE, SEVEN, graph_of

T5, BERT, FALCON_H1 = "google-t5/t5-base", "google-bert/bert-base-uncased", "tiiuae/Falcon-H1-0.5B-Base"
VOXTRAL, MLLAMA = "mistralai/Voxtral-Mini-3B-2507", "meta-llama/Llama-3.2-90B-Vision-Instruct"
SIGLIP, SPEECH = "google/paligemma-3b-pt-224", "microsoft/speecht5_vc"


@pytest.mark.parametrize("model", [NEMOTRON, FALCON_H1])
def test_the_fix_for_mamba_names_what_to_exclude(model: str) -> None:
    """all-linear on a hybrid, where PEFT raises, is answered with an exclusion under which it does not."""
    (refused,) = check(graph_of(model), "all-linear").of("dead-adapter")
    end = ".".join(refused.paths[0].split(".")[-2:])
    assert refused.fix == f'add exclude_modules=["{end}"]'
    found = check(graph_of(model), "all-linear", exclude_modules=(end,))
    assert found.matched
    assert "dead-adapter" not in found.rules


def test_what_mamba_refuses_is_no_unsupported_module() -> None:
    """A linear layer that PEFT leaves out for its kernel is not said to lack a LoRA layer."""
    found = check(graph_of(NEMOTRON), "out_proj,in_proj")
    assert "dead-adapter" in found.rules
    assert "unsupported-module" not in found.rules


def test_experts_that_are_named_are_not_missed_where_peft_refuses() -> None:
    """With the experts among target_parameters, another refusal does not call them missed."""
    experts = ("experts.up_proj", "experts.down_proj")
    assert "experts-missed" not in check(graph_of(NEMOTRON), "all-linear", target_parameters=experts).rules


def test_names_of_experts_that_are_parameters_are_a_hint() -> None:
    """After the fix for missed experts, the names that match nothing are to be dropped, and no error."""
    experts = ("experts.gate_up_proj", "experts.down_proj")
    found = check(graph_of(GPT_OSS), SEVEN, target_parameters=experts)
    assert not found.errors
    fixes = [finding.fix for finding in found.of("unmatched-name")]
    assert fixes == ["drop 'gate_proj'", "drop 'up_proj'", "drop 'down_proj'"]
    assert {finding.severity for finding in found.of("unmatched-name")} == {Severity.INFO}


@pytest.mark.parametrize(
    ("model", "name", "fix"),
    [
        (T5, "q_proj", 'write "q", which holds attention.q here'),
        (BERT, "o_proj", 'write "attention.output.dense", which holds attention.o here'),
        (BERT, "up_proj", 'write "intermediate.dense", which holds mlp.up here'),
        ("openai-community/gpt2", "o_proj", 'write "attn.c_proj", which holds attention.o here'),
        (MLLAMA, "wq", 'write "q_proj", which holds attention.q here'),
    ],
)
def test_a_suggestion_means_the_role_and_nothing_else(model: str, name: str, fix: str) -> None:
    """A last segment that other roles bear, too, is given with what stands before it."""
    (finding,) = check(graph_of(model), [name]).of("unmatched-name")
    assert finding.fix == fix
    suggested = check(graph_of(model), [fix.split('"')[1]])
    assert suggested.matched
    assert not suggested.errors


def test_an_expression_for_another_model_is_answered_name_by_name() -> None:
    """Each usual name that the expression would match is translated."""
    (finding,) = check(graph_of(T5), r".*\.(q|v)_proj").of("nothing-matched")
    assert finding.fix == (
        'for q_proj: write "q", which holds attention.q here; '
        'for v_proj: write "v", which holds attention.v here'
    )


def test_an_exclusion_that_covers_a_role_is_no_error() -> None:
    """Roles and the exclusion that the finding itself advises go together without a finding on names."""
    (finding,) = check(graph_of(VOXTRAL), "attention").of("wrong-tower")
    excluded = finding.fix.split('"')[1]
    found = check(graph_of(VOXTRAL), "attention", exclude_modules=excluded)
    assert found.matched
    assert {"wrong-tower", "unmatched-name"}.isdisjoint(found.rules)


def test_a_name_whose_modules_are_all_excluded_is_a_warning() -> None:
    """A person may mean to take a name back; it is said, and no error."""
    found = check(graph_of(LLAMA), "q_proj,v_proj", exclude_modules=("v_proj",))
    (finding,) = found.of("unmatched-name")
    assert finding.severity is Severity.WARNING
    assert finding.message.startswith("everything that target_modules entry 'v_proj' matches is excluded")


def test_many_names_of_nothing_are_one_finding() -> None:
    """Lists for another model are told of once each, with their first names."""
    names = tuple(f"block_{index}" for index in range(5000))
    found = check(graph_of(LLAMA), ["q_proj", *names], target_parameters=names, modules_to_save=names[:50])
    assert [finding.message.partition(", first ")[0] for finding in found.of("unmatched-name")] == [
        "5,000 entries of target_modules match nothing",
        "5,000 entries of target_parameters match nothing",
        "50 entries of modules_to_save match nothing",
    ]


def test_a_head_that_is_asked_for_is_only_mentioned() -> None:
    """The role head, the name and an expression with the name are no accident; all-linear is one."""
    for targets in ("head+attention", "q_proj,lm_head", r".*(q_proj|lm_head)"):
        assert [finding.severity for finding in check(graph_of(LLAMA), targets).of("head-adapted")] == [
            "info"
        ]
    (finding,) = check(graph_of(BERT), "all-linear").of("head-adapted")
    assert finding.severity is Severity.WARNING
    assert finding.fix.startswith('add exclude_modules=["transform.dense"]')
    excluded = check(graph_of(BERT), "all-linear", exclude_modules=("transform.dense",))
    assert "head-adapted" not in excluded.rules


def test_the_head_of_a_speech_model_is_no_other_tower() -> None:
    """Encoder, decoder and the head that speaks are one model."""
    found = check(graph_of(SPEECH), "all-linear")
    assert "wrong-tower" not in found.rules
    assert "head-adapted" in found.rules


def test_embeddings_cover_no_layer() -> None:
    """T5 keeps its relative positions in the first layer: naming embeddings leaves no hole in the others."""
    assert "layer-coverage" not in check(graph_of(T5), "embedding").rules


def test_a_table_of_positions_is_not_bypassed_by_a_kernel() -> None:
    """For an embedding, the other way through the code is interpolation and not a fused kernel."""
    (finding,) = check(graph_of(SIGLIP), "embedding").of("dead-adapter")
    assert "kernel" not in finding.message + finding.fix
    assert "for inputs of another size" in finding.message


@pytest.mark.parametrize(
    "model", ["microsoft/Phi-mini-MoE-instruct", "meta-llama/Llama-4-Scout-17B-16E-Instruct"]
)
def test_a_router_that_is_a_module_is_excluded(model: str) -> None:
    """Where exclude_modules reaches the router, the fix is that, and it ends the finding."""
    (finding,) = check(graph_of(model), "all-linear").of("router-adapted")
    end = finding.fix.split('"')[1]
    assert finding.fix == f'add exclude_modules=["{end}"]'
    assert "router-adapted" not in check(graph_of(model), "all-linear", exclude_modules=(end,)).rules


def test_a_router_that_is_a_parameter_cannot_be_excluded() -> None:
    """PEFT applies no exclusion to parameters, so that only other names help."""
    (finding,) = check(graph_of(QWEN_MOE), "all-linear").of("router-adapted")
    assert finding.fix == 'name the layers instead of matching them all; the router is "mlp.gate"'


def test_the_weight_of_a_router_is_named_instead_of_its_module() -> None:
    """A module without a LoRA layer is taken out of the names; its weight may be named as a parameter."""
    model = "Qwen/Qwen3-VL-30B-A3B-Instruct"
    (finding,) = check(graph_of(model), "gate,q_proj").of("unsupported-module")
    assert finding.fix == (
        "take 'gate' out of the names; to adapt its weight, name it in target_parameters=[\"gate.weight\"]"
    )
    assert not check(graph_of(model), "q_proj", target_parameters=("gate.weight",)).errors


def test_a_tied_embedding_does_not_widen_an_expression() -> None:
    """What ensure_weight_tying adds is asked for, and is no widening."""
    assert "pattern-widened" not in check(graph_of(GEMMA_4), "head+attention", ensure_weight_tying=True).rules


def test_what_shares_a_weight_is_told_in_grammar() -> None:
    """One module keeps, several keep."""
    (one,) = check(graph_of(QWEN), "q_proj,lm_head").of("tied-weights")
    assert "but model.embed_tokens keeps the old weight" in one.message
    (several,) = check(graph_of(T5), "q,lm_head").of("tied-weights")
    assert "decoder.embed_tokens keep the old weight" in several.message


def test_a_list_of_one_from_a_role_is_no_trap() -> None:
    """Only what a person wrote as a list of one may meet TRL's conversion."""
    assert "string-for-list" not in check(graph_of(LLAMA), "attention.q").rules
    assert "string-for-list" in check(graph_of(LLAMA), "q_proj").rules


def test_alpha_of_nothing_is_dead() -> None:
    """PEFT takes lora_alpha=0, and trains adapters that change nothing."""
    (finding,) = check(graph_of(LLAMA), "q_proj", alpha=0).of("dead-adapter")
    assert finding.message.startswith("lora_alpha is 0")
    assert len(finding.paths) == 22
    assert "dead-adapter" not in check(graph_of(LLAMA), "q_proj", alpha=8).rules


@pytest.mark.parametrize(
    ("model", "targets", "options"),
    [
        (LLAMA, "q_proj", {"modules_to_save": ("head",)}),
        (LLAMA, "q_proj,lm_head", {"modules_to_save": ("head",)}),
        ("mistralai/Mixtral-8x7B-v0.1", {"r": 8}, {}),
        (NEMOTRON, "out_proj,in_proj", {}),
        (GEMMA_4, "head+attention", {"ensure_weight_tying": True}),
    ],
)
def test_peft_does_what_these_findings_say(model: str, targets: Any, options: dict[str, Any]) -> None:
    """Endings in modules_to_save, defaults lost among experts, and ties: PEFT trains as much, or refuses."""
    found = check(graph_of(model), targets, **options)
    run = dry_run(build(locate(model, source="catalogue")).module, found.settings)
    assert run.trainable_parameters == found.trainable_parameters
    assert (run.refusal is None) == bool(found.matched)
