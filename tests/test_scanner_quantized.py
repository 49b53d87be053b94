"""Quantized bases: logical sizes and packed bytes, of live layers and from configs, without libraries."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers.integrations.eetq import EetqLinear
from transformers.integrations.fbgemm_fp8 import FbgemmFp8Linear, FbgemmFp8Llama4TextExperts
from transformers.integrations.finegrained_fp8 import FP8Experts, FP8Linear
from transformers.integrations.gemma_quant import QuantizedEmbedding, QuantizedLinear
from transformers.integrations.higgs import HiggsLinear
from transformers.integrations.mxfp4 import Mxfp4GptOssExperts

from lora_probe import Adaptable, Kind, ModuleGraph, Site, scan
from lora_probe.scanner.exemptions import exempt_names
from lora_probe.scanner.packing import packings_of

IN, OUT, EXPERTS = 256, 512, 4


def tensor_bytes(module: nn.Module, *, without: tuple[str, ...] = ("bias",)) -> int:
    """Return the bytes of all tensors of `module` but its biases."""
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return sum(
        tensor.numel() * tensor.element_size() for name, tensor in named.items() if not name.endswith(without)
    )


class GPTQ(nn.Module):
    """A layer in GPTQ's layout of 4 bits, as GPTQModel's are."""

    def __init__(self) -> None:
        super().__init__()
        self.in_features, self.out_features = IN, OUT
        self.register_buffer("qweight", torch.zeros(IN // 8, OUT, dtype=torch.int32))
        self.register_buffer("qzeros", torch.zeros(IN // 128, OUT // 8, dtype=torch.int32))
        self.register_buffer("scales", torch.zeros(IN // 128, OUT, dtype=torch.float16))
        self.register_buffer("g_idx", torch.zeros(IN, dtype=torch.int32))
        self.register_buffer("bias", torch.zeros(OUT, dtype=torch.float16))


class BaseQuantLinear(GPTQ):
    """Named as the base of GPTQModel's layers, which PEFT looks for."""


class Linear4bit(nn.Linear):
    """A layer in the layout of bitsandbytes: two values a byte, flat, in a parameter of another shape."""

    def __init__(self) -> None:
        super().__init__(IN, OUT, bias=False)
        self.weight = nn.Parameter(torch.zeros(IN * OUT // 2, 1, dtype=torch.uint8), requires_grad=False)


class Ternary(nn.Module):
    """A layer in BitNet's layout: four values a byte, one scale."""

    def __init__(self) -> None:
        super().__init__()
        self.in_features, self.out_features = IN, OUT
        self.register_buffer("weight", torch.zeros(OUT // 4, IN, dtype=torch.uint8))
        self.register_buffer("weight_scale", torch.zeros(1, dtype=torch.bfloat16))


def packed_layers() -> list[tuple[nn.Module, Kind, Adaptable | None]]:
    """Return quantized stand-ins for a layer of IN x OUT, what they are and how PEFT reaches them."""
    with torch.device("meta"):
        return [
            (FP8Linear(IN, OUT, (128, 128)), Kind.LINEAR, Adaptable.MODULE),
            (FP8Linear(IN, OUT, None, activation_scheme="static"), Kind.LINEAR, Adaptable.MODULE),
            (FbgemmFp8Linear(IN, OUT, bias=True), Kind.LINEAR, Adaptable.MODULE),
            (QuantizedLinear(IN, OUT, num_bits=2), Kind.LINEAR, Adaptable.MODULE),
            (Linear4bit(), Kind.LINEAR, Adaptable.MODULE),
            (BaseQuantLinear(), Kind.LINEAR, Adaptable.MODULE),
            (EetqLinear(IN, OUT, bias=True), Kind.LINEAR, Adaptable.MODULE),
            (GPTQ(), Kind.LINEAR, None),
            (Ternary(), Kind.LINEAR, None),
            (HiggsLinear(IN, OUT, 4, bias=False, hadamard_size=256), Kind.LINEAR, None),
            (QuantizedEmbedding(IN, OUT, torch.bfloat16, num_bits=4), Kind.EMBEDDING, None),
        ]


@pytest.mark.parametrize(
    ("layer", "kind", "adaptable"), packed_layers(), ids=lambda each: type(each).__name__
)
def test_packed_layers_count_as_their_matrix(
    layer: nn.Module, kind: Kind, adaptable: Adaptable | None
) -> None:
    """A packed layer has the sides of its matrix, all bytes that store it, and PEFT's way to reach it."""
    graph = scan(nn.ModuleDict({"layer": layer}))
    (site,) = graph
    assert (site.kind, site.in_features, site.out_features) == (kind, IN, OUT)
    assert (site.parameter, site.adaptable) == ("layer.weight", adaptable)
    assert site.weight_bytes == tensor_bytes(layer)
    assert graph.total_parameters == IN * OUT + site.bias_parameters
    assert site.bias_parameters == (OUT if getattr(layer, "bias", None) is not None else 0)
    assert graph.uncovered == ()


def packed_experts() -> list[tuple[nn.Module, Adaptable | None]]:
    """Return packed stacks of experts of width IN and intermediate width IN / 2."""
    fp8 = transformers.Qwen3MoeConfig(hidden_size=IN, moe_intermediate_size=IN // 2, num_experts=EXPERTS)
    mxfp4 = transformers.GptOssConfig(hidden_size=IN, intermediate_size=IN // 2, num_local_experts=EXPERTS)
    llama = transformers.Llama4TextConfig(
        hidden_size=IN, intermediate_size=IN // 2, num_local_experts=EXPERTS
    )
    with torch.device("meta"):
        return [
            (FP8Experts(fp8, (128, 128)), Adaptable.PARAMETER),
            (FbgemmFp8Llama4TextExperts(llama), Adaptable.PARAMETER),
            (Mxfp4GptOssExperts(mxfp4), None),
        ]


@pytest.mark.parametrize(("experts", "adaptable"), packed_experts(), ids=lambda each: type(each).__name__)
def test_packed_experts_count_as_their_matrices(experts: nn.Module, adaptable: Adaptable | None) -> None:
    """Packed stacks have logical sides whichever way they are stored, and their scales are no parameters."""
    graph = scan(nn.ModuleDict({"experts": experts}))
    sides = {site.parameter: (site.in_features, site.out_features, site.experts) for site in graph}
    assert sides == {
        "experts.gate_up_proj": (IN, IN, EXPERTS),
        "experts.down_proj": (IN // 2, IN, EXPERTS),
    }
    assert {site.adaptable for site in graph} == {adaptable}
    stored = tensor_bytes(experts, without=("_bias", "input_scale_ub"))
    assert sum(site.weight_bytes or 0 for site in graph) == stored
    assert graph.uncovered == ()


def quantized(settings: dict[str, Any] | None) -> ModuleGraph:
    """Scan a small model whose config has these quantization settings."""
    config = transformers.MixtralConfig(
        hidden_size=IN, intermediate_size=OUT, num_hidden_layers=2, num_attention_heads=8,
        num_key_value_heads=2, num_local_experts=EXPERTS, vocab_size=1000, dtype="bfloat16",
    )  # fmt: skip
    if settings is not None:
        config.quantization_config = settings
    return scan(config)


def site_of(graph: ModuleGraph, end: str) -> Site:
    """Return the first site whose weight's name ends so."""
    return next(site for site in graph if site.parameter.endswith(end))


def test_totals_do_not_depend_on_the_method() -> None:
    """Quantization changes bytes and element types, never elements or sides."""
    plain, packed = quantized(None), quantized({"quant_method": "fp8", "weight_block_size": [128, 128]})
    assert packed.total_parameters == plain.total_parameters
    assert [(site.parameter, site.parameters) for site in packed] == [
        (site.parameter, site.parameters) for site in plain
    ]
    assert (plain.quantization, packed.quantization) == (None, "fp8")
    assert "quantized-base" in {note.code for note in packed.notes}


@pytest.mark.parametrize(
    ("settings", "layer"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, lambda: FP8Linear(IN, OUT, (128, 128))),
        ({"quant_method": "fp8"}, lambda: FP8Linear(IN, OUT)),
        (
            {"quant_method": "fp8", "activation_scheme": "static"},
            lambda: FP8Linear(IN, OUT, activation_scheme="static"),
        ),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, GPTQ),
        ({"quant_method": "eetq"}, lambda: EetqLinear(IN, OUT)),
        ({"quant_method": "bitnet"}, Ternary),
    ],
)
def test_bytes_from_a_config_are_those_of_real_layers(settings: dict[str, Any], layer: Any) -> None:
    """What a config says of storage agrees with the tensors of the layer that the method makes."""
    packings = packings_of(settings)
    assert packings is not None
    assert packings[Kind.LINEAR].bytes(IN, OUT) == tensor_bytes(layer())


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 64}, OUT * (IN // 2 + (IN // 64) * 2.5)),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, OUT * (IN // 2 + IN // 64 * 4)),
        (
            {"load_in_4bit": True, "bnb_4bit_use_double_quant": True},
            OUT * (IN // 2 + IN // 64) + OUT * IN // 64 // 256 * 4,
        ),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, OUT * (IN + 4)),
        ({"quant_method": "hqq", "nbits": 4, "group_size": 64}, OUT * (IN // 2 + IN // 64 * 4)),
        ({"quant_method": "quanto", "weights": "int8"}, OUT * (IN + 2)),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, OUT * (IN // 2 + IN // 16) + 8),
        (
            {
                "quant_method": "compressed-tensors", "format": "pack-quantized",
                "config_groups": {"group_0": {"targets": ["Linear"], "weights": {
                    "num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True,
                }}},
            },
            OUT * (IN // 2 + IN // 32 * 2) + 16,
        ),
    ],
)  # fmt: skip
def test_bytes_follow_each_published_layout(settings: dict[str, Any], size: float) -> None:
    """Values, scales and zero points of one matrix take what the method's layout says."""
    packings = packings_of(settings)
    assert packings is not None
    assert packings[Kind.LINEAR].bytes(IN, OUT) == size


def test_only_experts_are_mxfp4() -> None:
    """MXFP4 packs the stacked experts and nothing else."""
    graph = quantized({"quant_method": "mxfp4"})
    experts, attention = site_of(graph, "experts.down_proj"), site_of(graph, "q_proj.weight")
    assert (experts.dtype, experts.weight_bytes) == ("uint8", EXPERTS * IN * OUT * 17 // 32)
    assert (attention.dtype, attention.weight_bytes) == ("bfloat16", IN * IN * 2)


def test_methods_that_load_layers_leave_stacked_experts() -> None:
    """Bitsandbytes replaces linear layers, so experts that are parameters keep their type."""
    graph = quantized({"quant_method": "bitsandbytes", "load_in_4bit": True})
    assert site_of(graph, "experts.down_proj").dtype == "bfloat16"
    assert site_of(graph, "q_proj.weight").dtype == "uint8"
    assert site_of(graph, "lm_head.weight").dtype == "bfloat16"


@pytest.mark.parametrize(
    ("patterns", "packed", "exempt"),
    [
        (["lm_head"], "q_proj.weight", "lm_head.weight"),
        (["model.layers.0"], "layers.1.self_attn.q_proj.weight", "layers.0.self_attn.q_proj.weight"),
        (["model.layers.*.self_attn"], "lm_head.weight", "layers.1.self_attn.q_proj.weight"),
        (["re:.*self_attn\\.(q|k)_proj$"], "layers.0.self_attn.v_proj.weight", "0.self_attn.k_proj.weight"),
        (["o_proj"], "layers.0.self_attn.v_proj.weight", "layers.0.self_attn.o_proj.weight"),
        (["language_model.model.layers.0*"], "layers.1.self_attn.q_proj.weight", "0.self_attn.v_proj.weight"),
    ],
)
def test_what_a_config_leaves_out_keeps_its_type(patterns: list[str], packed: str, exempt: str) -> None:
    """Modules that a list names, by start, end, wildcard or alternative, are stored plainly."""
    graph = quantized({"quant_method": "fp8", "modules_to_not_convert": patterns})
    assert site_of(graph, packed).dtype == "float8_e4m3fn"
    assert site_of(graph, exempt).dtype == "bfloat16"


@pytest.mark.parametrize(
    "settings",
    [
        {"quant_method": "something-new"},
        {"quant_method": "gptq"},
        {"quant_method": "gptq", "bits": "four"},
        {"quant_method": "fp8", "weight_block_size": "128"},
        {"quant_method": "fp8", "modules_to_not_convert": "lm_head"},
        {"quant_method": "fp8", "modules_to_not_convert": ["(a+)+$"]},
        {"quant_method": "compressed-tensors", "config_groups": {"a": {}, "b": {}}},
    ],
)
def test_what_is_not_understood_is_said_to_be_unknown(settings: dict[str, Any]) -> None:
    """Of an unknown method or setting no bytes are claimed; sizes stay exact."""
    graph = quantized(settings)
    assert site_of(graph, "q_proj.weight").weight_bytes is None
    assert graph.total_parameters == quantized(None).total_parameters
    assert graph.quantization == settings["quant_method"]


def test_patterns_are_matched_in_linear_time() -> None:
    """Patterns that would make a regular expression backtrack for ever are matched at once."""
    names = exempt_names({"ignore": ["re:" + ".*a" * 200 + "b"]})
    assert names is not None
    assert "a" * 5000 not in names


def test_a_loaded_quantized_model_says_its_method() -> None:
    """The config of a live model names the method, as a dict or as transformers' own record."""
    config = transformers.LlamaConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    model = transformers.LlamaModel(config)
    for settings in ({"quant_method": "fp8"}, transformers.FineGrainedFP8Config()):
        model.config.quantization_config = settings
        graph = scan(model)
        assert graph.quantization == "fp8"
        assert [note.code for note in graph.notes] == ["quantized-base"]
