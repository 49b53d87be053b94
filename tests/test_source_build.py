"""A config becomes the right class on the meta device, whatever else the config says."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers
from torch import nn

from lora_probe.errors import BuildError, BuildTooLarge, ImplausibleConfig, UnknownArchitecture
from lora_probe.source import Located, SourceKind
from lora_probe.source.build import build

if TYPE_CHECKING:
    from pathlib import Path

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 100,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
BERT: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}


def total(module: nn.Module) -> int:
    """Count the distinct parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def codes(config: dict[str, Any]) -> list[str]:
    """Return the codes of the notes of a build."""
    return [note.code for note in build(config).notes]


def test_a_model_is_built_without_memory() -> None:
    """Every parameter lies on the meta device, in evaluation mode, with the total known by hand."""
    built = build(LLAMA)
    assert built.architecture == "LlamaForCausalLM"
    layer = 16 * 16 * 2 + 16 * 8 * 2 + 3 * 16 * 24 + 2 * 16
    assert total(built.module) == 2 * 100 * 16 + 2 * layer + 16
    assert {parameter.device.type for parameter in built.module.parameters()} == {"meta"}
    assert not built.module.training
    assert built.notes == ()


def test_the_largest_models_cost_no_memory() -> None:
    """A model of 400 billion parameters is described, not allocated."""
    sizes = {"hidden_size": 16384, "intermediate_size": 53248, "num_hidden_layers": 126, "vocab_size": 128256}
    built = build({**LLAMA, **sizes, "num_attention_heads": 128, "num_key_value_heads": 8})
    assert total(built.module) == 405_853_388_800


def test_the_given_config_is_kept_and_not_changed() -> None:
    """What a build leaves out of its own copy is still in the record, and in the caller's dict."""
    config = {**LLAMA, "quantization_config": {"quant_method": "fp8"}, "rope_scaling": {"type": "linear"}}
    config["rope_scaling"]["factor"] = 2.0
    before = copy.deepcopy(config)
    assert build(config).config is config
    assert config == before


@pytest.mark.parametrize(
    ("changes", "architecture", "notes"),
    [
        ({"architectures": ["LlamaModel"]}, "LlamaModel", []),
        ({"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification", []),
        ({"architectures": None}, "LlamaForCausalLM", []),
        ({"architectures": []}, "LlamaForCausalLM", []),
        ({"architectures": ["LlamaForNobody"]}, "LlamaModel", ["other-class"]),
        ({"architectures": ["os"]}, "LlamaModel", ["other-class"]),
        ({"architectures": ["AutoModel"]}, "LlamaModel", ["other-class"]),
        ({"architectures": ["PreTrainedModel"]}, "LlamaModel", ["other-class"]),
        ({"architectures": ["GPT2LMHeadModel"]}, "LlamaForCausalLM", ["other-class"]),
        ({"model_type": "kimi_k9"}, "LlamaForCausalLM", ["unknown-model-type"]),
        ({"model_type": None}, "LlamaForCausalLM", []),
        ({"auto_map": {"AutoModelForCausalLM": "m.C"}}, "LlamaForCausalLM", ["remote-code-refused"]),
    ],
)
def test_the_class_follows_the_config(changes: dict[str, Any], architecture: str, notes: list[str]) -> None:
    """architectures[0] decides where it is installed and fits, else the type; a note says what was done."""
    built = build({**LLAMA, **changes})
    assert built.architecture == architecture
    assert [note.code for note in built.notes] == notes


@pytest.mark.parametrize(
    ("model_type", "architecture"),
    [
        ("t5", "T5ForConditionalGeneration"),
        ("bert", "BertLMHeadModel"),
        ("vit", "ViTModel"),
        ("llava", "LlavaForConditionalGeneration"),
        ("llama4", "Llama4ForConditionalGeneration"),
        ("whisper", "WhisperForConditionalGeneration"),
    ],
)
def test_without_architectures_the_type_decides(model_type: str, architecture: str) -> None:
    """Causal language models come first, then image-text, sequence-to-sequence, and the base model."""
    assert build({"model_type": model_type}).architecture == architecture


def test_a_head_that_wants_only_the_text_config_is_passed_over() -> None:
    """A multimodal config is never handed to the causal head of its text part."""
    config = transformers.AutoConfig.for_model("gemma3").to_dict()
    assert build({**config, "architectures": None}).architecture == "Gemma3ForConditionalGeneration"


def test_old_configs_without_a_type_are_built_by_their_class() -> None:
    """The first BERT configs name only their class."""
    built = build({**BERT, "architectures": ["BertForMaskedLM"]})
    assert built.architecture == "BertForMaskedLM"
    assert built.notes == ()


def test_another_generation_is_not_built_as_the_first() -> None:
    """A rwkv5 model names the class of rwkv, whose layers are others."""
    with pytest.raises(UnknownArchitecture, match="no model type 'rwkv5'"):
        build({"model_type": "rwkv5", "architectures": ["RwkvForCausalLM"]})


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "names neither model_type nor architectures"),
        ({"model_type": "baichuan"}, "no model type 'baichuan'; upgrade it, or give a folder"),
        ({"model_type": "a", "architectures": ["B"]}, "no model type 'a' and no class 'B'"),
        ({"architectures": ["B"]}, "no class 'B'"),
        ({"model_type": "a", "auto_map": {"AutoConfig": "c.C"}}, "--trust-remote-code"),
        ({"model_type": "rag"}, "no model class to choose for RagConfig"),
    ],
)
def test_an_unknown_architecture_says_the_way_out(config: dict[str, Any], words: str) -> None:
    """Neither type nor class known: upgrade, allow the model's own code, or give its weights."""
    with pytest.raises(UnknownArchitecture) as caught:
        build(config)
    assert words in str(caught.value)


def test_a_folder_without_config_cannot_be_built(tmp_path: Path) -> None:
    """Weights alone are for the headers."""
    located = Located(model="m", kind=SourceKind.FOLDER, detail="m", config=None, folder=tmp_path)
    with pytest.raises(UnknownArchitecture, match=r"no config\.json"):
        build(located)


@pytest.mark.parametrize(
    "quantization",
    [
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
        {"quant_method": "gptq", "bits": 4, "group_size": 128},
        {"quant_method": "awq", "bits": 4},
        {"quant_method": "fp8", "weight_block_size": [128, 128]},
        {"quant_method": "mxfp4"},
        {"quant_method": "unheard-of"},
        "nonsense",
    ],
)
def test_a_quantized_model_has_its_logical_shapes(quantization: object) -> None:
    """No quantizer's library is loaded, at the top or in a part, and the shapes are those of the weights."""
    built = build({**LLAMA, "quantization_config": quantization})
    assert total(built.module) == total(build(LLAMA).module)
    text = {**LLAMA, "quantization_config": quantization}
    assert total(build({"model_type": "llava", "text_config": text}).module) > 0


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        ({"dtype": "bfloat16"}, torch.bfloat16),
        ({"torch_dtype": "float16"}, torch.float16),
        ({"torch_dtype": "torch.float16"}, torch.float16),
        ({}, torch.float32),
        ({"dtype": "float8_e4m3fn"}, torch.float32),
        ({"dtype": "load"}, torch.float32),
        ({"dtype": ["float16"]}, torch.float32),
    ],
)
def test_parameters_have_the_element_type_of_the_config(given: dict[str, Any], dtype: torch.dtype) -> None:
    """A type that no module can be built in is passed over."""
    assert {parameter.dtype for parameter in build({**LLAMA, **given}).module.parameters()} == {dtype}


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_an_implementation_is_never_fetched(key: str) -> None:
    """A config may name a repository of kernels, which transformers would download and run."""
    assert total(build({**LLAMA, key: "owner/kernels"}).module) == total(build(LLAMA).module)


def test_a_live_config_is_built_with_its_own_class() -> None:
    """A config object works as its dict does, and is not changed."""
    config = transformers.LlamaConfig(**{key: value for key, value in LLAMA.items() if key != "model_type"})
    before = config.to_dict()
    built = build(config)
    assert built.architecture == "LlamaForCausalLM"
    assert built.config["hidden_size"] == 16
    assert config.to_dict() == before


def test_a_registered_class_is_found() -> None:
    """A class of the user's own that is registered with the auto classes is built."""

    class OwnConfig(transformers.LlamaConfig):
        model_type = "own-llama"

    class OwnForCausalLM(transformers.LlamaForCausalLM):
        config_class = OwnConfig

    transformers.AutoConfig.register("own-llama", OwnConfig, exist_ok=True)
    transformers.AutoModelForCausalLM.register(OwnConfig, OwnForCausalLM, exist_ok=True)
    sizes = {key: value for key, value in LLAMA.items() if isinstance(value, int)}
    named = {**sizes, "model_type": "own-llama", "architectures": ["OwnForCausalLM"]}
    assert type(build(named).module) is OwnForCausalLM
    assert build(named).notes == ()
    assert type(build(OwnConfig(**sizes)).module) is OwnForCausalLM


def test_what_is_no_config_is_a_type_error() -> None:
    """A list is the caller's mistake, not bad input."""
    with pytest.raises(TypeError, match="got list"):
        build([LLAMA])


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"num_hidden_layers": 10**9}, ImplausibleConfig, "num_hidden_layers is beyond any published model"),
        ({"hidden_size": -16}, ImplausibleConfig, "hidden_size must not be negative, got -16"),
        ({"hidden_size": "16"}, ImplausibleConfig, "hidden_size must be a whole number, got '16'"),
        ({"hidden_size": 16.5}, ImplausibleConfig, "hidden_size must be a whole number, got 16.5"),
        ({"vocab_size": float("nan")}, ImplausibleConfig, "vocab_size must be a whole number, got nan"),
        ({"vocab_size": float("inf")}, ImplausibleConfig, "vocab_size must be a whole number, got inf"),
        ({"num_hidden_layers": True}, ImplausibleConfig, "must be a whole number, got True"),
        ({"intermediate_size": 10**400}, ImplausibleConfig, "got a number of 401 digits"),
        ({"vocab_size": "x" * 999}, ImplausibleConfig, "xxx…"),
        ({"model_type": ["llama"]}, ImplausibleConfig, "model_type must be a string"),
        ({"architectures": "LlamaModel2", "model_type": 3}, ImplausibleConfig, "model_type must be a string"),
        ({"architectures": [{}]}, ImplausibleConfig, "architectures must be a list of class names"),
        ({"architectures": 5}, ImplausibleConfig, "architectures must be a list of class names"),
        ({"text_config": {"n_layer": [1, 10**9]}}, ImplausibleConfig, "text_config.n_layer[1] is beyond"),
        ({"hidden_size": {"a": 1}}, BuildError, "Field 'hidden_size' expected int, got dict"),
        ({"num_attention_heads": 0}, BuildError, "ZeroDivisionError"),
        ({"hidden_size": 0, "head_dim": 4}, BuildError, "it would have no parameter"),
        ({"hidden_act": "os.system"}, BuildError, "KeyError: 'os.system'"),
        ({"layer_types": ["x"]}, BuildError, "validate_layer_type"),
        ({"rope_scaling": [1]}, BuildError, "got list (value: [1])"),
    ],
)
def test_a_broken_config_is_one_sentence(changes: dict[str, Any], error: type[Exception], words: str) -> None:
    """What a field should be is said before building; what only the class knows, in its words."""
    with pytest.raises(error) as caught:
        build({**LLAMA, **changes})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_too_many_parameters_are_refused() -> None:
    """A width that no field name gives away is stopped by the total."""
    with pytest.raises(BuildTooLarge, match=r"6\.03e\+19 parameters"):
        build({"model_type": "mamba", "expand": 10**12})


def test_a_missing_library_is_named() -> None:
    """A class that needs another library says which, and what works without it."""
    with pytest.raises(BuildError, match=r"TimmBackbone requires the timm library.*; install that library"):
        build(
            {"model_type": "detr", "architectures": ["DetrModel"], "use_timm_backbone": True, "backbone": "x"}
        )


def test_other_repositories_are_not_asked() -> None:
    """A config that names the repository of its backbone reaches no network."""
    config = {"model_type": "detr", "use_timm_backbone": False, "backbone": "microsoft/resnet-50"}
    with pytest.raises(BuildError, match="offline mode"):
        build({**config, "use_pretrained_backbone": True})


def test_a_build_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    """Neither warnings nor logs of transformers reach the terminal, also for a config that it warns about."""
    build({**LLAMA, "rope_scaling": {"rope_type": "linear", "factor": 2.0, "unheard": 1}, "num_labels": 7,
           "id2label": {"0": "a"}, "torch_dtype": "float16", "tie_word_embeddings": True})  # fmt: skip
    assert capfd.readouterr() == ("", "")


def test_everything_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a build and after a failed one, torch, the hub's client, logging and limits are as before."""
    import logging
    import resource
    import signal

    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def state() -> tuple[Any, ...]:
        return (
            torch.load,
            torch.get_default_dtype(),
            constants.HF_HUB_OFFLINE,
            logging.getLogger("transformers").level,
            resource.getrlimit(resource.RLIMIT_DATA),
            signal.getsignal(signal.SIGALRM),
            signal.getitimer(signal.ITIMER_REAL),
            dict(torch.nn.modules.module._global_module_registration_hooks),
        )

    before = state()
    build({**LLAMA, "dtype": "bfloat16"})
    assert state() == before
    with pytest.raises(BuildError):
        build({**LLAMA, "num_attention_heads": 0})
    assert state() == before
