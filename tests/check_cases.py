"""For each rule of `lora_probe.checks`: targets on a real architecture that show it, and others that do not.

Where that is possible, the one that does not is the first with the rule's own fix applied.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from lora_probe.scanner import scan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lora_probe import ModuleGraph

__all__ = ["CASES", "Example", "graph_of"]

LLAMA = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
QWEN = "Qwen/Qwen3-4B"
QWEN_MOE = "Qwen/Qwen3-30B-A3B"
GPT_OSS = "openai/gpt-oss-20b"
DEEPSEEK = "deepseek-ai/DeepSeek-V3"
ZAMBA = "Zyphra/Zamba2-1.2B"
NEMOTRON = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"
GEMMA_3 = "google/gemma-3-4b-it"
GEMMA_4 = "google/gemma-4-26B-A4B"
GPT_2 = "openai-community/gpt2"
VIT = "ViT with a classifier"
QV, SEVEN = "q_proj,v_proj", "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"
FIRST_LAYERS = r"model\.layers\.[0-3]\.self_attn\.(q|v)_proj"
EXPERTS = ("experts.gate_up_proj", "experts.down_proj")


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One call of `check`."""

    model: str
    targets: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)
    adapter: str | None = None
    """A name in `tests.check_adapters.ADAPTERS`."""


def on(model: str, targets: Any = None, adapter: str | None = None, **options: Any) -> Example:
    """Return an example."""
    return Example(model=model, targets=targets, options=options, adapter=adapter)


def to(engine: str, model: str, targets: Any, **options: Any) -> Example:
    """Return an example with a serving engine."""
    return on(model, targets, serve=(engine,), **options)


@cache
def graph_of(model: str) -> ModuleGraph:
    """Return the graph of a model of the catalogue, or of one that is described here."""
    if model == VIT:
        import torch
        from transformers import ViTConfig, ViTForImageClassification

        with torch.device("meta"):
            return scan(ViTForImageClassification(ViTConfig(num_hidden_layers=2, num_labels=1000)))
    if model == "tiny llama":
        from tests.tiny_models import build_tiny

        return scan(build_tiny("llama"))
    return scan(model, source="catalogue")


_LINTS: Mapping[str, tuple[Example, Example]] = {
    "unmatched-name": (on(LLAMA, "q_proj,k_prj"), on(LLAMA, "q_proj,k_proj")),
    "nothing-matched": (on(LLAMA, r".*\.(query|value)"), on(LLAMA, r".*\.(q|v)_proj")),
    "string-for-list": (on(LLAMA, "re:q_proj"), on(LLAMA, r".*\.q_proj")),
    "renamed-module": (on(VIT, "query,value"), on(VIT, QV)),
    "experts-missed": (
        on(GPT_OSS, "all-linear"),
        on(GPT_OSS, "all-linear", target_parameters=EXPERTS),
    ),
    "dense-rewritten": (
        on(DEEPSEEK, "all-linear"),
        on(
            DEEPSEEK,
            "all-linear",
            target_parameters=tuple(
                f"{block}.{part}_proj.weight"
                for block in ("mlp", "shared_experts")
                for part in ("gate", "up", "down")
            ),
        ),
    ),
    "pattern-widened": (
        on(QWEN_MOE, FIRST_LAYERS),
        on(QWEN_MOE, [f"model.layers.{i}.self_attn.{p}_proj" for i in range(4) for p in "qv"]),
    ),
    "doubled-rank": (
        on(QWEN_MOE, "gate_proj,up_proj,down_proj"),
        on(QWEN_MOE, QV, target_parameters=EXPERTS),
    ),
    "gate-without-up": (on(QWEN_MOE, "gate_proj,down_proj"), on(QWEN_MOE, "gate_proj,up_proj,down_proj")),
    "router-adapted": (on(QWEN_MOE, "all-linear"), on(QWEN_MOE, SEVEN)),
    "wrong-tower": (
        on(GEMMA_3, QV),
        on(GEMMA_3, QV, exclude_modules=r"(model\.vision_tower)(\..*)?"),
    ),
    "head-adapted": (on(VIT, "all-linear"), on(VIT, "all-linear", modules_to_save=("classifier",))),
    "tied-weights": (on(GPT_2, "c_attn,wte"), on(GPT_2, "c_attn")),
    "dead-adapter": (on(ZAMBA, "in_proj,out_proj"), on(ZAMBA, "in_proj")),
    "layer-coverage": (
        on(NEMOTRON, "q_proj,k_proj,v_proj,o_proj"),
        on(NEMOTRON, "q_proj,k_proj,v_proj,o_proj,in_proj,up_proj,down_proj"),
    ),
    "container-hit": (on(LLAMA, ["self_attn"]), on(LLAMA, "q_proj,k_proj,v_proj,o_proj")),
    "wrapper-layer": (on(GEMMA_4, QV), on(GEMMA_4, QV, exclude_modules=r".*vision_tower.*")),
    "unsupported-module": (on(LLAMA, "q_proj,input_layernorm"), on(LLAMA, "q_proj")),
    "conv-adapted": (on(GEMMA_3, "q_proj,patch_embedding"), on(GEMMA_3, "q_proj")),
    "large-adapter": (on(LLAMA, SEVEN, rank=512), on(LLAMA, SEVEN, rank=16)),
    "rank-above-width": (on(LLAMA, "k_proj", rank=512), on(LLAMA, "k_proj", rank=256)),
    "full-copy": (
        on(QWEN, QV, modules_to_save=("embed_tokens", "lm_head")),
        on(QWEN, QV, trainable_token_indices=(5, 6)),
    ),
    "saved-by-ending": (
        on(LLAMA, QV, modules_to_save=("head",)),
        on(LLAMA, QV, modules_to_save=("lm_head",)),
    ),
    "unused-pattern": (on(LLAMA, QV, rank_pattern={"k_proj": 4}), on(LLAMA, QV, rank_pattern={"v_proj": 4})),
    "peft-refuses": (on(QWEN_MOE, "all-linear", dropout=0.05), on(QWEN_MOE, "all-linear", dropout=0.0)),
    "adapter-tensors": (on("tiny llama", adapter="incomplete"), on("tiny llama", adapter="whole")),
    "adapter-shape": (on("tiny llama", adapter="other rank"), on("tiny llama", adapter="whole")),
    "adapter-old-names": (on("tiny llama", adapter="old prefix"), on("tiny llama", adapter="whole")),
    "adapter-base-model": (on("tiny llama", adapter="other model"), on("tiny llama", adapter="whole")),
}
_ENGINES: Mapping[str, tuple[Example, Example]] = {
    "vllm-rank": (to("vllm", LLAMA, QV, rank=32), to("vllm", LLAMA, QV, rank=16)),
    "vllm-dora": (to("vllm", LLAMA, QV, use_dora=True), to("vllm", LLAMA, QV)),
    "vllm-modules-to-save": (
        to("vllm", LLAMA, QV, modules_to_save=("lm_head",)),
        to("vllm", LLAMA, "q_proj,v_proj,lm_head"),
    ),
    "vllm-bias": (to("vllm", LLAMA, QV, bias="all"), to("vllm", LLAMA, QV)),
    "vllm-tokens": (to("vllm", LLAMA, QV, trainable_token_indices=(5,)), to("vllm", LLAMA, QV)),
    "vllm-scale": (
        to("vllm", LLAMA, QV, rank_pattern={"v_proj": 4}),
        to("vllm", LLAMA, QV, rank_pattern={"v_proj": 4}, alpha_pattern={"v_proj": 4}),
    ),
    "vllm-layers": (to("vllm", GEMMA_3, "q_proj,patch_embedding"), to("vllm", GEMMA_3, "q_proj")),
    "vllm-embeddings": (to("vllm", GEMMA_3, "q_proj,lm_head"), to("vllm", LLAMA, "q_proj,lm_head")),
    "vllm-towers": (to("vllm", GEMMA_3, QV), to("vllm", GEMMA_3, r".*language_model.*\.(q|v)_proj")),
    "vllm-experts": (to("vllm", QWEN_MOE, SEVEN), to("vllm", QWEN_MOE, QV)),
    "vllm-prefix": (to("vllm", "Qwen/Qwen-7B built as another", QV), to("vllm", LLAMA, QV)),
    "sglang-expression": (to("sglang", LLAMA, r".*\.(q|v)_proj"), to("sglang", LLAMA, QV)),
    "sglang-dora": (to("sglang", LLAMA, QV, use_dora=True), to("sglang", LLAMA, QV)),
    "sglang-tokens": (to("sglang", LLAMA, QV, trainable_token_indices=(5,)), to("sglang", LLAMA, QV)),
    "sglang-layers": (to("sglang", QWEN_MOE, "all-linear"), to("sglang", QWEN_MOE, SEVEN)),
    "sglang-towers": (to("sglang", GEMMA_3, QV), to("sglang", GEMMA_3, "text:attention")),
    "sglang-scale": (
        to("sglang", LLAMA, QV, alpha_pattern={"v_proj": 99}),
        to("sglang", LLAMA, QV, alpha=99),
    ),
    "sglang-switches": (to("sglang", LLAMA, QV), to("sglang", LLAMA, ["self_attn"])),
    "llama-cpp-scale": (
        to("llama.cpp", LLAMA, QV, use_rslora=True),
        to("llama.cpp", LLAMA, QV, rank_pattern={"v_proj": 4}),
    ),
    "llama-cpp-dora": (to("llama.cpp", LLAMA, QV, use_dora=True), to("llama.cpp", LLAMA, QV)),
    "llama-cpp-modules-to-save": (
        to("llama.cpp", LLAMA, QV, modules_to_save=("lm_head",)),
        to("llama.cpp", LLAMA, "q_proj,lm_head"),
    ),
    "llama-cpp-bias": (to("llama.cpp", LLAMA, QV, bias="all"), to("llama.cpp", LLAMA, QV)),
    "llama-cpp-tokens": (
        to("llama.cpp", LLAMA, QV, trainable_token_indices=(5,)),
        to("llama.cpp", LLAMA, QV),
    ),
    "llama-cpp-head": (to("llama.cpp", GPT_2, "c_attn,lm_head"), to("llama.cpp", LLAMA, "q_proj,lm_head")),
    "llama-cpp-experts": (to("llama.cpp", QWEN_MOE, SEVEN), to("llama.cpp", QWEN_MOE, QV)),
    "llama-cpp-towers": (to("llama.cpp", GEMMA_3, QV), to("llama.cpp", GEMMA_3, "text:attention")),
}
_SHARED: Mapping[str, tuple[Example, Example]] = {
    f"{engine}-{name}": pair
    for engine in ("tgi", "lorax")
    for name, pair in {
        "layers": (to(engine, QWEN, "q_proj,lm_head"), to(engine, LLAMA, SEVEN)),
        "tokens": (to(engine, LLAMA, QV, trainable_token_indices=(5,)), to(engine, LLAMA, QV)),
        "bias": (to(engine, LLAMA, QV, bias="all"), to(engine, LLAMA, QV)),
        "all-layers": (to(engine, LLAMA, "attention@0-7"), to(engine, LLAMA, "attention")),
        "dora": (to(engine, LLAMA, QV, use_dora=True), to(engine, LLAMA, QV)),
        "modules-to-save": (to(engine, LLAMA, QV, modules_to_save=("lm_head",)), to(engine, LLAMA, QV)),
        "scale": (to(engine, LLAMA, QV, rank_pattern={"v_proj": 4}), to(engine, LLAMA, QV, use_rslora=True)),
        "towers": (to(engine, GEMMA_3, QV), to(engine, GEMMA_3, "text:attention")),
    }.items()
}
CASES: Mapping[str, tuple[Example, Example]] = {**_LINTS, **_ENGINES, **_SHARED}
"""By rule: the example that shows it, and the example that does not."""
