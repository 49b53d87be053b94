"""Models that PEFT has wrapped already, and graphs against what PEFT does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from peft import LoraConfig, get_peft_model
from transformers import (
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from lora_probe import scan
from lora_probe.scanner import verify
from lora_probe.scanner.verification import mismatches
from tests.census import build_type

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT reads it

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def llama() -> PreTrainedModel:
    """Return a small Llama with weights."""
    return LlamaForCausalLM(LlamaConfig(vocab_size=50, num_key_value_heads=2, **SMALL))


def experts() -> PreTrainedModel:
    """Return a small mixture of experts with weights."""
    return GptOssForCausalLM(GptOssConfig(vocab_size=50, num_local_experts=4, head_dim=8, **SMALL))


def test_a_wrapped_model_is_seen_through() -> None:
    """Under PEFT's wrappers stand the base model's modules and sites; a note says that there are some."""
    config = LoraConfig(target_modules="all-linear", modules_to_save=["lm_head"], trainable_token_indices=[1])
    plain, wrapped = scan(llama()), scan(get_peft_model(llama(), config))
    assert (wrapped.sites, wrapped.uncovered, wrapped.modules) == (
        plain.sites,
        plain.uncovered,
        plain.modules,
    )
    assert (wrapped.architecture, wrapped.output_embedding) == ("LlamaForCausalLM", "lm_head")
    assert [note.code for note in wrapped.notes] == ["adapters-present"]


def test_nested_parameter_adapters_are_seen_through() -> None:
    """Two adapters on parameters of one module are two wrappers, below which it is found."""
    config = LoraConfig(target_modules=[], target_parameters=["experts.gate_up_proj", "experts.down_proj"])
    assert scan(get_peft_model(experts(), config)).sites == scan(experts()).sites


@pytest.mark.parametrize("model", [llama(), experts()])
def test_peft_agrees_and_the_model_is_left_alone(model: PreTrainedModel) -> None:
    """Real adapters on every site have the sides and sizes of the graph, and go on a copy."""
    names = [name for name, _ in model.named_modules()]
    assert verify(model) == ()
    assert [name for name, _ in model.named_modules()] == names
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


@pytest.mark.parametrize(
    "model_type", ["clip", "aria_text", "zamba", "xlnet", "efficientnet", "csm", "mamba", "vits"]
)
def test_peft_agrees_on_unusual_layers(model_type: str) -> None:
    """PEFT agrees on packed attention, stacks either way round, grouped and remade convolutions."""
    assert verify(build_type(model_type)) == ()


def test_what_peft_refuses_is_not_adaptable() -> None:
    """Layers that Mamba's kernels read past an adapter, and convolutions PEFT cannot remake, are marked."""
    mamba = scan(build_type("mamba"))
    refused = {site.path.rpartition(".")[2] for site in mamba if site.adaptable is None}
    assert refused == {"conv1d", "out_proj"}
    efficient = scan(build_type("efficientnet"))
    assert {site.module_class for site in efficient if site.adaptable is None} == {
        "EfficientNetDepthwiseConv2d"
    }


def test_a_wrong_graph_is_found_out() -> None:
    """Other sides, and a site that PEFT cannot adapt, are reported with what PEFT does instead."""
    model = llama()
    graph = scan(model)
    first, second, *rest = graph.sites
    wrong = replace(graph, sites=(first, replace(second, in_features=33), *rest))
    (found,) = mismatches(wrong, model)
    assert found.path == second.path
    assert "PEFT's adapter has" in found.message
    swapped = replace(rest[3], in_features=rest[3].out_features, out_features=rest[3].in_features)
    (found,) = mismatches(replace(graph, sites=(swapped,)), model)
    assert {"64 -> 32", "32 -> 64"} <= set(found.message.replace(",", " is").split(" is "))
    missing = replace(first, path="model.norm", parameter="model.norm.weight")
    (found,) = mismatches(replace(graph, sites=(missing,)), model)
    assert found.message.startswith("PEFT refuses")
