"""Real transformers models so small that adapters are injected, saved and compared in milliseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import transformers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

__all__ = ["MODELS", "build_tiny"]

_DECODER: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 30,
    "max_position_embeddings": 32,
}
_EXPERTS: dict[str, Any] = {**_DECODER, "moe_intermediate_size": 12, "num_experts_per_tok": 2}
_ENCODER: dict[str, Any] = {key: value for key, value in _DECODER.items() if key != "num_key_value_heads"}
_VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}


def _causal(name: str, **config: Any) -> Callable[[], nn.Module]:
    return _model(f"{name}Config", f"{name}ForCausalLM", **config)


def _model(config_class: str, model_class: str, **config: Any) -> Callable[[], nn.Module]:
    return lambda: getattr(transformers, model_class)(getattr(transformers, config_class)(**config))


MODELS: Mapping[str, Callable[[], nn.Module]] = {
    "llama": _causal("Llama", **_DECODER),
    "llama-tied": _causal("Llama", **_DECODER, tie_word_embeddings=True),
    "phi": _causal("Phi", **_ENCODER),
    "gpt2": _model("GPT2Config", "GPT2LMHeadModel", n_embd=16, n_layer=2, n_head=2, vocab_size=30),
    "t5": _model(
        "T5Config", "T5ForConditionalGeneration",
        d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, vocab_size=30,
    ),
    "bert-mlm": _model("BertConfig", "BertForMaskedLM", **_ENCODER),
    "roberta-classifier": _model("RobertaConfig", "RobertaForSequenceClassification", **_ENCODER),
    "qwen3-moe": _causal("Qwen3Moe", **_EXPERTS, num_experts=4, head_dim=8),
    "mixtral": _causal("Mixtral", **_DECODER, num_local_experts=4),
    "gpt-oss": _causal("GptOss", **_DECODER, num_local_experts=4, head_dim=8),
    "siglip": _model(
        "SiglipConfig", "SiglipModel",
        text_config={**_ENCODER, "projection_size": 16}, vision_config=_VISION,
    ),
    "vit": _model("ViTConfig", "ViTForImageClassification", **_VISION, num_labels=3),
    "mobilenet": _model(
        "MobileNetV2Config", "MobileNetV2ForImageClassification", image_size=32, num_labels=3
    ),
}  # fmt: skip
"""How to build one model of each sort that the budget treats in its own way."""


def build_tiny(name: str, *, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return the model on the CPU with random weights of one element type."""
    torch.manual_seed(0)
    return MODELS[name]().to(dtype).eval()
