"""What llama.cpp's conversion of adapters to GGUF refuses or scales wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.checks.records import Severity
from lora_probe.checks.serving.conditions import (
    adapters_where,
    bias_trained,
    dora_used,
    is_expert,
    is_head,
    modules_saved,
    other_towers,
    scales_differ,
    tokens_trained,
)
from lora_probe.checks.serving.engine import Engine, Limit

if TYPE_CHECKING:
    from lora_probe.checks.case import Case
    from lora_probe.peft_rules import Adapter, LoraSettings

_CONVERTER = "llama.cpp/convert_lora_to_gguf.py"


def _scale(settings: LoraSettings, rank: int) -> float:
    return settings.alpha / rank


def _is_tied_head(case: Case, adapter: Adapter) -> bool:
    return is_head(case, adapter) and adapter.site is not None and adapter.site.tied_to is not None


ENGINE = Engine(
    name="llama.cpp",
    title="llama.cpp",
    limits=(
        Limit(
            name="scale",
            severity=Severity.ERROR,
            happens="multiplies each adapter by lora_alpha over its rank.",
            why="use_rslora and alpha_pattern are not read on conversion. rank_pattern is harmless: each "
            "tensor's own rank counts.",
            fix="Before converting, set lora_alpha to the value that gives the same factor, and drop "
            "use_rslora.",
            source=f"ggml-org/llama.cpp, {_CONVERTER}, lora_alpha",
            when=scales_differ(
                _scale,
                fix="no single lora_alpha suits all layers: merge the adapter and convert the model",
                one_fix="before converting, set lora_alpha to {alpha} and use_rslora to false in "
                "adapter_config.json, and drop alpha_pattern",
            ),
        ),
        Limit(
            name="dora",
            severity=Severity.ERROR,
            happens="stops at the magnitude vectors of DoRA.",
            why="Only pairs of A and B, and norms, are converted.",
            fix="Train without use_dora, or merge the adapter into the model.",
            source=_CONVERTER,
            when=dora_used,
        ),
        Limit(
            name="modules-to-save",
            severity=Severity.ERROR,
            happens="stops at full copies of modules.",
            why="Only pairs of A and B, and norms, are converted.",
            fix="Drop modules_to_save, or merge the adapter into the model.",
            source=f"ggml-org/llama.cpp#9948, {_CONVERTER}",
            when=modules_saved,
        ),
        Limit(
            name="bias",
            severity=Severity.ERROR,
            happens="stops at trained biases.",
            why="Only pairs of A and B, and norms, are converted.",
            fix='Set bias="none".',
            source=_CONVERTER,
            when=bias_trained,
        ),
        Limit(
            name="tokens",
            severity=Severity.ERROR,
            happens="stops at trained tokens.",
            why="Only pairs of A and B, and norms, are converted.",
            fix="Drop trainable_token_indices, or merge the adapter into the model.",
            source=_CONVERTER,
            when=tokens_trained,
        ),
        Limit(
            name="head",
            severity=Severity.ERROR,
            happens="raises: lm_head is present in adapter, but is ignored in base model.",
            why="With tied embeddings the converted model has no head of its own.",
            fix="Leave lm_head out.",
            source="ggml-org/llama.cpp#11554, ggml-org/llama.cpp#9065",
            when=adapters_where(_is_tied_head, "adapter is on a tied head", "leave lm_head out"),
        ),
        Limit(
            name="experts",
            severity=Severity.ERROR,
            happens="cannot map adapters on fused experts.",
            why="PEFT stores all experts' factors side by side under a name, base_layer, that no tensor has.",
            fix="Leave the experts out, or merge the adapter into the model.",
            source=_CONVERTER,
            when=adapters_where(
                is_expert,
                "adapters are on fused experts",
                "leave the experts out, or merge the adapter into the model and convert that",
            ),
        ),
        Limit(
            name="towers",
            severity=Severity.WARNING,
            happens="converts adapters of the language model only.",
            why="The projector is a file of its own, to which no adapter is applied.",
            fix="Adapt the language model only.",
            source=f"{_CONVERTER}, modify_tensors",
            when=other_towers("adapt the language model only"),
        ),
    ),
)
