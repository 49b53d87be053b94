"""Facts about PEFT that people trip over, each on a real model: what we predict, and what PEFT does."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from lora_probe import scan
from lora_probe.budgeting.count import adapter_elements, trainable_parameters
from lora_probe.errors import PeftRefusal
from lora_probe.peft_rules import Inventory, LoraSettings, predict, tables
from tests.handmade import make_graph, make_site
from tests.oracle.comparison import differences
from tests.tiny_models import build_tiny

if TYPE_CHECKING:
    from torch import nn

    from lora_probe.peft_rules import Prediction

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT warns of half of these


@cache
def _model(name: str) -> tuple[nn.Module, Inventory]:
    model = build_tiny(name).to("meta")
    return model, Inventory(scan(model))


def _predict(name: str, **fields: Any) -> Prediction:
    """Return our prediction, once PEFT has been seen to do just that."""
    model, inventory = _model(name)
    assert differences(model, inventory, fields) == []
    return predict(inventory, LoraSettings(**fields))


def _refusal(name: str, **fields: Any) -> str:
    """Return the rule for which we refuse, once PEFT has been seen to raise for the same reason."""
    model, inventory = _model(name)
    assert differences(model, inventory, fields) == []
    with pytest.raises(PeftRefusal) as caught:
        predict(inventory, LoraSettings(**fields))
    return caught.value.rule


def _modules(prediction: Prediction) -> set[str]:
    return {adapter.key.rpartition(".")[2] for adapter in prediction.adapters}


def test_a_list_matches_by_suffix_and_a_string_by_the_whole_name() -> None:
    """The same text is a suffix in a list and an expression for full names on its own."""
    assert len(_predict("llama", target_modules=("q_proj",)).adapters) == 3
    assert _refusal("llama", target_modules="q_proj") == "nothing-matched"
    assert len(_predict("llama", target_modules=r".*\.q_proj").adapters) == 3


def test_a_name_that_matches_nothing_is_passed_over() -> None:
    """PEFT adapts the rest and says nothing, as long as anything matches."""
    prediction = _predict("llama", target_modules=("q_proj", "q_porj"))
    assert _modules(prediction) == {"q_proj"}
    assert prediction.warnings == ()


def test_a_container_is_refused() -> None:
    """A name that hits a module which is no layer ends the whole injection."""
    assert _refusal("llama", target_modules=("mlp",)) == "unsupported-module"


def test_excluded_and_saved_modules_lose() -> None:
    """`exclude_modules` and `modules_to_save` win over any target."""
    kept = _predict(
        "llama", target_modules=("q_proj", "v_proj"), exclude_modules=("layers.1.self_attn.v_proj",)
    )
    assert len(kept.adapters) == 5
    saved = _predict("llama", target_modules="all-linear", modules_to_save=("self_attn.o_proj",))
    assert _modules(saved) == {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj"}
    assert len(saved.saved) == 3


def test_modules_to_save_takes_whatever_ends_with_these_characters() -> None:
    """``head`` saves ``lm_head``: no dot is asked for."""
    (copy,) = _predict("llama", target_modules=("q_proj",), modules_to_save=("head",)).saved
    assert copy.path == "lm_head"


def test_layers_go_with_a_list_only() -> None:
    """A string with layers is refused as soon as the configuration is made."""
    assert _refusal("llama", target_modules=r".*q_proj", layers_to_transform=(0,)) == "layers-need-names"
    assert len(_predict("llama", target_modules=("q_proj",), layers_to_transform=(0, 2)).adapters) == 2


def test_a_name_in_full_is_adapted_whatever_its_layer() -> None:
    """Layers apply to suffixes; an exact name passes them by."""
    full = "model.layers.2.self_attn.v_proj"
    prediction = _predict("llama", target_modules=("q_proj", full), layers_to_transform=0)
    assert [adapter.key for adapter in prediction.adapters] == ["model.layers.0.self_attn.q_proj", full]


def test_all_linear_leaves_out_the_output_embedding_only() -> None:
    """It keeps a classifier's head unless the task is SEQ_CLS."""
    assert "lm_head" not in _modules(_predict("llama", target_modules="all-linear"))
    heads = {"out_proj"}
    assert heads <= _modules(_predict("roberta-classifier", target_modules="all-linear"))
    assert not heads & _modules(
        _predict("roberta-classifier", target_modules="all-linear", task_type="SEQ_CLS")
    )


def test_a_model_type_without_default_needs_targets() -> None:
    """PEFT knows defaults for a few model types, and parameters alone do not keep them away."""
    assert _modules(_predict("llama")) == {"q_proj", "v_proj"}
    assert _refusal("siglip") == "no-targets"
    both = _predict("llama", target_parameters=("down_proj.weight",))
    assert {adapter.key.rpartition(".")[2] for adapter in both.adapters} == {"q_proj", "v_proj", "weight"}


def test_old_expert_names_double_the_rank_of_the_fused_parameter() -> None:
    """Gate and up become one parameter with twice the rank; naming the parameter does not double it."""
    names = _predict("qwen3-moe", target_modules=("gate_proj", "up_proj", "down_proj"), rank=4)
    assert {adapter.key.rpartition(".")[2]: adapter.rank for adapter in names.adapters} == {
        "gate_up_proj": 8, "down_proj": 4,
    }  # fmt: skip
    explicit = _predict(
        "qwen3-moe", target_modules=(), target_parameters=("gate_up_proj", "down_proj"), rank=4
    )
    assert {adapter.rank for adapter in explicit.adapters} == {4}
    assert names.warnings[0].startswith("rank_pattern matches no module")
    assert names.settings.alpha_pattern == {r".*\.gate_up_proj": 16}


@pytest.mark.parametrize(
    ("name", "half"), [("qwen3-moe", "gate_proj"), ("qwen3-moe", "up_proj"), ("mixtral", "w1")]
)
def test_gate_without_up_is_refused(name: str, half: str) -> None:
    """One half of a fused parameter cannot be targeted by its old name."""
    assert _refusal(name, target_modules=(half,)) == "half-fused"


def test_an_expression_loses_its_layers_where_expert_names_are_rewritten() -> None:
    """Of an expression for layer 0, the last segments are left, which match in every layer."""
    expression = r".*\.0\..*(q_proj|k_proj)"
    assert len(_predict("llama", target_modules=expression).adapters) == 2
    assert len(_predict("qwen3-moe", target_modules=expression).adapters) == 6


def test_all_linear_adapts_experts_and_router_where_names_are_rewritten() -> None:
    """And it misses both where they are not: gpt-oss gets attention only."""
    assert _modules(_predict("qwen3-moe", target_modules="all-linear")) >= {
        "gate_up_proj",
        "down_proj",
        "weight",
    }
    assert _modules(_predict("gpt-oss", target_modules="all-linear")) == {
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
    }
    old_names = ("q_proj", "gate_proj", "up_proj", "down_proj")
    assert _modules(_predict("gpt-oss", target_modules=old_names)) == {"q_proj"}


def test_a_mixture_of_rewritten_names_has_no_default() -> None:
    """Mixtral has a default in PEFT, but the rewriting leaves an empty list before that is looked up."""
    assert "mixtral" in tables.DEFAULT_TARGETS
    assert _refusal("mixtral") == "no-parameters"


@pytest.mark.parametrize("option", [{"dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}])
def test_parameters_take_neither_dropout_nor_dora_nor_bias(option: dict[str, Any]) -> None:
    """Targets by parameter exclude options that modules take."""
    fields = {"target_modules": (), "target_parameters": ("down_proj",)}
    assert _refusal("qwen3-moe", **fields, **option) == "parameter-option"


def test_a_parameter_of_one_dimension_is_refused() -> None:
    """A suffix that also hits a norm ends the injection."""
    fields = {"target_modules": (), "target_parameters": ("weight",)}
    assert _refusal("llama", **fields) == "parameter-dimensions"


def test_parameters_ignore_layers_and_exclusions() -> None:
    """Neither `layers_to_transform` nor `exclude_modules` keeps a parameter from being adapted."""
    prediction = _predict(
        "qwen3-moe",
        target_modules=("q_proj",),
        target_parameters=("down_proj",),
        layers_to_transform=(0,),
        exclude_modules=("experts",),
    )
    assert [adapter.key for adapter in prediction.adapters if adapter.parameter] == [
        f"model.layers.{layer}.mlp.experts.down_proj" for layer in range(3)
    ]


def test_parameters_after_conv1d_modules_are_refused() -> None:
    """Adapting GPT-2's Conv1D leaves `fan_in_fan_out` on, which a parameter's wrapper refuses."""
    assert (
        _refusal("gpt2", target_modules=("c_attn",), target_parameters=("wpe.weight",)) == "parameter-option"
    )


def test_packed_attention_is_adapted_with_its_output() -> None:
    """MultiheadAttention gets r x 4E on the packed matrix and r x 2E on its output, and no DoRA."""
    prediction = _predict("siglip", target_modules=("head.attention",), rank=2)
    width = 16
    assert trainable_parameters(prediction, _model("siglip")[1]) == 2 * 4 * width + 2 * 2 * width
    assert len(prediction.sites) == 2
    assert _refusal("siglip", target_modules=("head.attention",), use_dora=True) == "attention-dora"


def test_the_rank_of_a_grouped_convolution_is_a_multiple_of_its_groups() -> None:
    """A depth-wise convolution takes no rank below its channels."""
    fields = {"target_modules": ("conv_3x3.convolution",)}
    assert _refusal("mobilenet", **fields, rank=3) == "conv-groups"


def test_tied_embeddings_are_adapted_twice_or_share_their_factors() -> None:
    """Without `ensure_weight_tying`, embedding and head get an adapter each; with it, they share one."""
    _, inventory = _model("llama-tied")
    targets = {"target_modules": ("embed_tokens", "lm_head"), "rank": 4}
    apart = _predict("llama-tied", **targets)
    shared = _predict("llama-tied", **targets, ensure_weight_tying=True)
    once = 4 * (30 + 16)
    assert trainable_parameters(apart, inventory) == 2 * once
    assert trainable_parameters(shared, inventory) == once
    assert [adapter.tied for adapter in shared.adapters] == [False, True]


def test_tied_copies_are_counted_once() -> None:
    """With `ensure_weight_tying`, the embedding's copy serves the tied head; without, two are made."""
    _, inventory = _model("llama-tied")
    fields = {"target_modules": ("q_proj",), "modules_to_save": ("embed_tokens", "lm_head"), "rank": 1}
    adapters = 3 * (16 + 16)
    assert trainable_parameters(_predict("llama-tied", **fields), inventory) == 2 * 30 * 16 + adapters
    tied = _predict("llama-tied", **fields, ensure_weight_tying=True)
    assert trainable_parameters(tied, inventory) == 30 * 16 + adapters


def test_copies_that_depend_on_the_order_of_a_set_are_refused() -> None:
    """One entry for two tied embeddings and one for one of them: what PEFT drops differs from run to run."""
    graph = replace(
        make_graph([make_site("decoder.fc", 8, 8)]),
        input_embedding="decoder.embed_tokens",
        tied_modules=("decoder.embed_tokens", "encoder.embed_tokens"),
    )
    fields = LoraSettings(target_modules=("fc",), modules_to_save=("embed_tokens",), ensure_weight_tying=True)
    with pytest.raises(PeftRefusal, match="left to chance") as caught:
        predict(graph, fields)
    assert caught.value.rule == "ambiguous-tie"


def test_token_rows_are_trained_once_for_tied_embeddings() -> None:
    """Rows of the embedding are rows of the tied head; an untied head is not touched."""
    for name in ("llama", "llama-tied"):
        prediction = _predict(name, target_modules=("q_proj",), trainable_token_indices=(1, 5, 7), rank=1)
        assert trainable_parameters(prediction, _model(name)[1]) == 3 * 16 + 3 * (16 + 16)


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_bias_options_count_the_models_own_biases(bias: str) -> None:
    """`all` takes every bias of the model, `lora_only` those of the adapted layers."""
    _, inventory = _model("phi")
    prediction = _predict("phi", target_modules=("q_proj",), bias=bias, rank=1)
    extra = trainable_parameters(prediction, inventory) - 3 * (16 + 16)
    everything = sum(inventory.parameters[name].shape[0] for name in inventory.biases)
    assert extra == (everything if bias == "all" else 3 * 16)


@pytest.mark.parametrize("fields", [{}, {"use_dora": True}, {"lora_bias": True}])
@pytest.mark.parametrize(
    ("name", "target"), [("llama", "down_proj"), ("gpt2", "c_attn"), ("gpt2", "wte"), ("vit", "projection")]
)
def test_one_site_costs_what_its_adapter_holds(name: str, target: str, fields: dict[str, Any]) -> None:
    """The closed formula for a site is the sum over the tensors that PEFT makes for it."""
    if target == "wte" and "lora_bias" in fields:
        assert _refusal(name, target_modules=(target,), **fields) == "embedding-bias"
        return
    prediction = _predict(name, target_modules=(target,), rank=4, **fields)
    expected = sum(adapter_elements(site, 4, **fields) for site in prediction.sites)
    assert trainable_parameters(prediction, _model(name)[1]) == expected


def test_experts_cost_their_factors_once_each() -> None:
    """The adapter of a stack of experts is r x E x (in + out)."""
    prediction = _predict("gpt-oss", target_modules=(), target_parameters=("down_proj",), rank=2)
    (site, *_) = prediction.sites
    assert site.experts == 4
    assert adapter_elements(site, 2) == 2 * 4 * (site.in_features + site.out_features)
    assert trainable_parameters(prediction, _model("gpt-oss")[1]) == 3 * adapter_elements(site, 2)


def test_a_rank_pattern_is_matched_from_the_end_of_the_name() -> None:
    """The first key that fits the end of a name sets its rank."""
    prediction = _predict(
        "llama", target_modules=("q_proj", "v_proj"), rank=8, rank_pattern={r"layers\.0\..*": 2, "v_proj": 3}
    )
    ranks = {adapter.key.split(".", 2)[2]: adapter.rank for adapter in prediction.adapters}
    assert (ranks["0.self_attn.v_proj"], ranks["1.self_attn.v_proj"], ranks["1.self_attn.q_proj"]) == (
        2,
        3,
        8,
    )


def test_the_tables_are_those_of_the_installed_libraries() -> None:
    """What is kept here as data is what PEFT and transformers have in their source."""
    from peft.tuners import tuners_utils
    from peft.utils import constants, transformers_weight_conversion
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    defaults = constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    assert {
        model_type: tuple(names) if isinstance(names, list) else names
        for model_type, names in defaults.items()
    } == dict(tables.DEFAULT_TARGETS)
    assert tuple(constants.EMBEDDING_LAYER_NAMES) == tables.EMBEDDING_NAMES
    conversion = transformers_weight_conversion
    assert dict(tables.RENAMED_EXPERTS) == conversion._MOE_TARGET_MODULE_MAPPING
    fused = {family: tuple(names["gate_up_proj"]) for family, names in conversion._MOE_FUSED_TARGETS.items()}
    assert fused == dict(tables.FUSED_EXPERTS)
    families = {
        model_type: family
        for model_type, family in conversion._MODEL_TO_CONVERSION_PATTERN.items()
        if family in tables.RENAMED_EXPERTS and get_checkpoint_conversion_mapping(model_type) is not None
    }
    assert families == {model_type: tables.renamed_experts(model_type) for model_type in families}
    assert len(families) == len(tables._FAMILY_OF) == 29
    source = tuners_utils._check_lora_target_modules_mamba.__code__.co_consts
    constants_of = {frozenset(value) for value in source if isinstance(value, (tuple, frozenset))}
    assert tables.MAMBA_TYPES in constants_of
