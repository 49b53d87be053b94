"""Settings without which a default config of transformers does not build, and what it lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
_INDEXER = {
    "indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 128,
    "indexer_budget": 2048, "indexer_compress_ratio": 16,
}  # fmt: skip
_FORECAST = {"prediction_length": 24, "context_length": 48}

ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    # A forecaster has no length by default, and derives others from it.
    "autoformer": _FORECAST, "informer": _FORECAST, "time_series_transformer": _FORECAST,
}  # fmt: skip
"""Arguments of the config class, by model type."""

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    # The tower's default heads do not divide its default width.
    "aya_vision": {"vision_config.num_attention_heads": 16},
    # The vocabulary of image tokens has no default.
    "chameleon": {"vocabulary_map": {}},
    "emu3": {"vocabulary_map": {}},
    # One kind of layer lacks its rotary parameters.
    "cohere_compass": {"text_config.rope_parameters.full_attention": _ROPE},
    "cohere_compass_text": {"rope_parameters.full_attention": _ROPE},
    "dbrx": {"attn_config.rope_theta": 500_000.0},
    # Which layers are of which kind has no default.
    "deepseek_ocr2": {"text_config.mlp_layer_types": ["dense", *["sparse"] * 31]},
    "lfm2_moe": {"layer_types": ["conv", "conv", "full_attention", "conv"] * 8},
    "granite4_vision": {"deepstack_layer_map": [[-1, 0]], "downsample_rate": "4/8"},
    # Sizes of attention without a default.
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "hunyuan_vl": {"text_config.head_dim": 128},
    "hunyuan_vl_text": {"head_dim": 128},
    "ministral": {"head_dim": 128},
    "moonshine_streaming": {"num_key_value_heads": 8},
    "nemotron": {"num_key_value_heads": 48},
    "qwen4_exp": {f"text_config.{name}": value for name, value in _INDEXER.items()},
    "qwen4_exp_text": _INDEXER,
    # Sizes of the mixture of experts without a default.
    "diffusion_gemma": {
        "text_config.num_experts": 128, "text_config.top_k_experts": 8,
        "text_config.moe_intermediate_size": 704,
    },
    "dots1": {"n_routed_experts": 128, "n_shared_experts": 2, "num_experts_per_tok": 6},
    "esm": {"vocab_size": 33, "pad_token_id": 1},
    # The head is tied to an embedding of another model's default size.
    "ovis2": {
        "text_config.hidden_size": 1536, "text_config.vocab_size": 151_643,
        "text_config.num_attention_heads": 12, "text_config.num_key_value_heads": 2,
    },
    # The language model is a decoder or none.
    "reformer": {"is_decoder": True},
    # The encoder reads two fields that only its text config's class for decoders has.
    "t5gemma2_encoder": {"text_config.dropout_rate": 0.0},
}  # fmt: skip
"""Values set on the default config, by model type and dotted name."""
