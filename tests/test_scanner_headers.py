"""Checkpoints as graphs: names and shapes alone against the model that was saved."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from lora_probe import Adaptable, Kind, ModuleGraph, Site, scan
from lora_probe.errors import UnknownArchitecture
from lora_probe.scanner.headers import graph_of_headers
from lora_probe.source.tensors import TensorInfo
from tests.census import models, saved_tensors

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

COMPARED = (
    "path", "kind", "in_features", "out_features", "experts", "groups", "layer", "tied_to", "parameters",
    "bias_parameters", "dtype", "weight_bytes", "shape",
)  # fmt: skip
ROLE = ("tower", "block", "part")
FAMILIES = (
    "llama", "qwen3", "gemma3_text", "phi3", "mistral", "gpt2", "gpt_neox", "falcon", "olmo2", "starcoder2",
    "mamba", "t5", "bart", "whisper", "vit", "mixtral", "deepseek_v3", "gpt_oss", "qwen3_moe", "llava",
)  # fmt: skip
OTHER_HEADS = {"whisper"}
"""Types whose tied head is not called lm_head."""
SAVED_BUFFERS = {"deepseek_v3"}
"""Types that save a buffer of floating point, which a header cannot tell from a parameter."""


def from_headers(tensors: Iterable[TensorInfo], config: dict[str, Any] | None = None) -> ModuleGraph:
    """Return the graph of `tensors`."""
    return graph_of_headers(tensors, config or {}, model="m", source="folder:m")


def tensor(name: str, *shape: int, dtype: str = "BF16") -> TensorInfo:
    """Return one entry of a header."""
    return TensorInfo(name=name, dtype=dtype, shape=shape)


def site_facts(site: Site, names: tuple[str, ...]) -> tuple[object, ...]:
    """Return what is compared of a site."""
    return tuple(getattr(site, name) for name in names)


@pytest.mark.parametrize("family", FAMILIES)
def test_headers_tell_what_the_module_tells(family: str) -> None:
    """For the usual families, sites, roles and totals from a header are those of the built model.

    What differs is stated here: a router that is a bare parameter looks linear; a tied head that is not saved
    has the usual name, and so has no name of its own.
    """
    ((_, model),) = models([family])
    built = scan(model)
    config = {**model.config.to_dict(), "architectures": [type(model).__name__]}
    read = from_headers(saved_tensors(model), config)
    assert read.input_embedding == (None if family == "vit" else built.input_embedding)  # a convolution
    if family not in OTHER_HEADS:
        assert read.output_embedding == built.output_embedding
    if family not in SAVED_BUFFERS:
        assert read.total_parameters == built.total_parameters
    by_name = {site.parameter: site for site in read}
    for site in built:
        if site.tied_to and site.parameter not in by_name:
            assert site.path != built.output_embedding or family in OTHER_HEADS
            continue
        found = by_name[site.parameter]
        assert site_facts(found, ROLE) == site_facts(site, ROLE)
        if site.block == "router":
            assert (site.kind, found.kind) == (Kind.MATRIX_PARAMETER, Kind.LINEAR)
            continue
        assert site_facts(found, COMPARED) == site_facts(site, COMPARED)


def test_unfused_experts_are_linear_layers() -> None:
    """A checkpoint with one matrix an expert has one linear site for each."""
    graph = from_headers([tensor(f"layers.0.experts.{index}.w1.weight", 8, 4) for index in range(3)])
    assert [(site.path, site.kind) for site in graph] == [
        (f"layers.0.experts.{index}.w1", Kind.LINEAR) for index in range(3)
    ]


@pytest.mark.parametrize(
    ("gate_up", "down", "sides"),
    [((4, 16, 6), (4, 6, 8), (6, 16)), ((4, 6, 16), (4, 8, 6), (6, 16))],
)
def test_fused_experts_either_way_round(
    gate_up: tuple[int, ...], down: tuple[int, ...], sides: tuple[int, int]
) -> None:
    """Which side of fused experts is the input follows from the pair of their shapes."""
    graph = from_headers(
        [tensor("mlp.experts.gate_up_proj", *gate_up), tensor("mlp.experts.down_proj", *down)]
    )
    by_name = {site.parameter: site for site in graph}
    fused, second = by_name["mlp.experts.gate_up_proj"], by_name["mlp.experts.down_proj"]
    assert (fused.in_features, fused.out_features, fused.experts) == (*sides, 4)
    assert (second.in_features, second.out_features) == (8, 6)
    assert fused.adaptable is Adaptable.PARAMETER


def compressed(bits: int) -> dict[str, Any]:
    """Return the settings of compressed-tensors for integers of so many bits."""
    groups = {"group_0": {"weights": {"num_bits": bits}}}
    return {"quant_method": "compressed-tensors", "config_groups": groups}


@pytest.mark.parametrize(
    ("tensors", "config"),
    [
        (
            [
                ("qweight", (8, 32), "I32"), ("qzeros", (2, 4), "I32"),
                ("scales", (2, 32), "F16"), ("g_idx", (64,), "I32"),
            ],
            {"quant_method": "gptq", "bits": 4},
        ),
        (
            [("qweight", (64, 4), "I32"), ("qzeros", (2, 4), "I32"), ("scales", (2, 32), "F16")],
            {"quant_method": "awq"},
        ),
        (
            [
                ("weight_packed", (32, 16), "I32"), ("weight_scale", (32, 2), "BF16"),
                ("weight_shape", (2,), "I64"),
            ],
            compressed(8),
        ),
        ([("weight", (32, 64), "F8_E4M3"), ("weight_scale_inv", (1, 1), "F32")], {"quant_method": "fp8"}),
        ([("weight", (32, 64), "I8"), ("SCB", (32,), "F32")], {"quant_method": "bitsandbytes"}),
        (
            [
                ("weight", (32, 32), "U8"), ("weight_scale", (32, 4), "F8_E4M3"),
                ("weight_scale_2", (), "F32"),
            ],
            {"quant_method": "modelopt"},
        ),
        ([("weight", (8, 64), "U8"), ("weight_scale", (1,), "BF16")], {"quant_method": "bitnet"}),
    ],
    ids=lambda each: each["quant_method"] if isinstance(each, dict) else "",
)  # fmt: skip
def test_packed_tensors_have_logical_sides(
    tensors: list[tuple[str, tuple[int, ...], str]], config: dict[str, Any]
) -> None:
    """Whatever packs it, a matrix of 64 -> 32 is one site of its logical size with all its bytes."""
    found = [tensor(f"model.layers.1.up_proj.{name}", *shape, dtype=code) for name, shape, code in tensors]
    graph = from_headers(found, {"quantization_config": config})
    (site,) = graph
    assert (site.path, site.kind) == ("model.layers.1.up_proj", Kind.LINEAR)
    assert (site.in_features, site.out_features, site.parameters) == (64, 32, 64 * 32)
    assert graph.total_parameters == 64 * 32
    assert site.weight_bytes is not None
    assert site.weight_bytes >= 64 * 32 // 4
    assert graph.quantization == config["quant_method"]
    assert "quantized-base" in {note.code for note in graph.notes}


def test_mxfp4_blocks_are_experts() -> None:
    """Blocks and scales of MXFP4 are one stack of matrices."""
    blocks = tensor("mlp.experts.down_proj_blocks", 4, 24, 2, 16, dtype="U8")
    scales = tensor("mlp.experts.down_proj_scales", 4, 24, 2, dtype="U8")
    (site,) = from_headers([blocks, scales, tensor("mlp.experts.down_proj_bias", 4, 24)])
    assert (site.parameter, site.in_features, site.out_features) == ("mlp.experts.down_proj", 64, 24)
    assert (site.experts, site.bias_parameters) == (4, 96)
    assert site.weight_bytes == 4 * 24 * 2 * 17


def test_sides_that_no_shape_tells_are_not_guessed() -> None:
    """Bitsandbytes saves 4-bit weights flat: counted with two values a byte, but no site."""
    graph = from_headers([
        tensor("q_proj.weight", 1024, 1, dtype="U8"),
        tensor("q_proj.weight.absmax", 32, dtype="U8"),
        tensor("q_proj.weight.quant_map", 16, dtype="F32"),
        tensor("q_proj.weight.quant_state.bitsandbytes__nf4", 80, dtype="U8"),
    ])  # fmt: skip
    assert len(graph) == 0
    assert (graph.total_parameters, graph.uncovered[0].shape) == (2048, (2048,))


def test_layers_of_gpt2_are_transposed_together() -> None:
    """A bias tells that (in, out) is stored; square namesakes are stored alike."""
    graph = from_headers([
        tensor("h.0.attn.c_proj.weight", 8, 8), tensor("h.0.attn.c_proj.bias", 8),
        tensor("h.0.mlp.c_proj.weight", 32, 8), tensor("h.0.mlp.c_proj.bias", 8),
    ])  # fmt: skip
    assert {site.kind for site in graph} == {Kind.CONV1D}
    assert [(site.in_features, site.out_features) for site in graph] == [(8, 8), (32, 8)]


def test_convolutions_by_shape() -> None:
    """Kernels of one to three dimensions are convolutions; a short bias tells a transposed one."""
    graph = from_headers([
        tensor("patch_embed.proj.weight", 32, 3, 14, 14),
        tensor("mixer.conv1d.weight", 64, 1, 4),
        tensor("up_conv.weight", 16, 8, 2, 2), tensor("up_conv.bias", 8),
    ])  # fmt: skip
    facts = {site.path: (site.in_features, site.out_features, site.groups, site.adaptable) for site in graph}
    assert facts == {
        "patch_embed.proj": (588, 32, 1, Adaptable.MODULE),
        "mixer.conv1d": (4, 64, 64, Adaptable.MODULE),
        "up_conv": (16, 32, 1, None),
    }
    assert {site.kind for site in graph} == {Kind.CONV}


def test_a_missing_head_is_tied() -> None:
    """A language model without a head in its checkpoint has the one of its embedding, unless it says not."""
    tensors = [tensor("model.embed_tokens.weight", 100, 8), tensor("model.norm.weight", 8)]
    config = {"architectures": ["NewForCausalLM"], "vocab_size": 100}
    graph = from_headers(tensors, config)
    embedding, head = graph
    assert (head.path, head.tied_to, head.parameters) == ("lm_head", "model.embed_tokens.weight", 0)
    assert (head.in_features, head.out_features) == (embedding.out_features, embedding.in_features)
    assert graph.total_parameters == 808
    assert len(from_headers(tensors, {**config, "tie_word_embeddings": False})) == 1
    assert len(from_headers(tensors, {"architectures": ["NewModel"]})) == 1


def test_what_is_saved_beside_parameters_is_not_counted() -> None:
    """Indices, masks and running statistics are no parameters."""
    graph = from_headers([
        tensor("norm.running_mean", 8), tensor("norm.num_batches_tracked", dtype="I64"),
        tensor("attn.bias", 1, 1, 8, 8, dtype="BOOL"), tensor("rotary.inv_freq", 4), tensor("norm.weight", 8),
    ])  # fmt: skip
    assert [item.parameter for item in graph.uncovered] == ["norm.weight"]


def test_layers_come_in_their_order() -> None:
    """Layer 2 comes before layer 10, and every module above a weight is listed once."""
    graph = from_headers([tensor(f"layers.{index}.up.weight", 4, 4) for index in (10, 2, 0)])
    assert [site.layer for site in graph] == [0, 2, 10]
    assert [module.path for module in graph.modules][:4] == ["", "layers", "layers.0", "layers.0.up"]


LEAVES = (
    "weight", "bias", "weight_v", "qweight", "scales", "qzeros", "weight_packed", "weight_scale",
    "in_proj_weight", "in_proj_bias", "gate_up_proj", "down_proj", "down_proj_blocks", "down_proj_scales",
    "weight.absmax", "A_log", "parametrizations.weight.original1", "running_mean", "9" * 5000,
)  # fmt: skip
MODULES = (
    "", "a", "layers.0.mlp", "layers.10.mlp", "embed_tokens", "conv", "..", "9" * 5000, "\x1b[0m", "lm_head",
)  # fmt: skip
SHAPES = st.lists(st.integers(0, 2**40), max_size=6).map(tuple)
TYPES = st.sampled_from(["BF16", "F32", "U8", "I8", "I32", "I64", "BOOL", "F8_E4M3", "F4"])
NAMES = st.tuples(st.sampled_from(MODULES), st.sampled_from(LEAVES))
HEADERS = st.dictionaries(NAMES, st.tuples(TYPES, SHAPES))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
CONFIGS = st.dictionaries(
    st.sampled_from([
        "architectures", "model_type", "vocab_size", "text_config", "quantization_config", "dtype",
        "tie_word_embeddings",
    ]),
    JSON | st.just({"quant_method": "gptq", "bits": 3}) | st.just(["NewForCausalLM"]),
)  # fmt: skip


@given(header=HEADERS, config=CONFIGS)
def test_any_header_and_config_give_a_graph(header: dict[Any, Any], config: dict[str, Any]) -> None:
    """Whatever a header and a config say, they give a graph whose parts add up and survive JSON."""
    tensors = [
        tensor(f"{module}.{leaf}" if module else leaf, *shape, dtype=code)
        for (module, leaf), (code, shape) in header.items()
    ]
    graph = from_headers(tensors, config)
    listed = [*(site.parameter for site in graph), *(item.parameter for item in graph.uncovered)]
    assert len(set(listed)) == len(listed)
    assert graph.total_parameters == graph.uncovered_parameters + sum(site.parameters for site in graph)
    assert ModuleGraph.from_json(graph.to_json()) == graph


def unknown(folder: Path) -> Path:
    """Save a small model of a type that nobody knows into `folder`."""
    config = transformers.LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, vocab_size=50
    )
    folder.mkdir()
    save_file(transformers.LlamaForCausalLM(config).state_dict(), folder / "model.safetensors")
    document = {**config.to_dict(), "architectures": ["NobodyForCausalLM"], "model_type": "nobody"}
    (folder / "config.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def test_an_unknown_architecture_is_read_from_its_checkpoint(tmp_path: Path) -> None:
    """Where transformers has no class, the folder's headers are scanned and a note says so."""
    graph = scan(unknown(tmp_path / "model"), cache=False)
    assert (graph.architecture, graph.model_type) == ("NobodyForCausalLM", "nobody")
    assert len(graph) == 16
    assert [note.code for note in graph.notes] == ["read-from-headers"]
    assert ModuleGraph.from_json(graph.to_json()) == graph


def test_without_a_checkpoint_the_reason_is_the_architecture(tmp_path: Path) -> None:
    """Where there is no checkpoint either, the error says that the architecture is unknown."""
    folder = unknown(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UnknownArchitecture, match="nobody"):
        scan(folder, cache=False)
