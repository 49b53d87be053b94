"""Facts that PEFT 0.21 and transformers 5 keep as tables; a test compares them with the installed ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "DEFAULT_TARGETS", "EMBEDDING_NAMES", "FUSED_EXPERTS", "MAMBA_MODULES", "MAMBA_TYPES", "RENAMED_EXPERTS",
    "SAVED_BY_TASK", "is_refused_in_mamba", "renamed_experts",
]  # fmt: skip

_QV = ("q_proj", "v_proj")
_BERT = ("query", "value")
_FUSED = ("query_key_value",)
DEFAULT_TARGETS: Mapping[str, tuple[str, ...] | str] = {
    **dict.fromkeys(("t5", "mt5"), ("q", "v")),
    **dict.fromkeys(
        ("bart", "gemma", "gemma2", "gemma3_text", "gpt_neo", "gptj", "llama", "llama4", "mistral", "mixtral",
         "opt", "qwen2", "qwen3", "stablelm"),
        _QV,
    ),
    **dict.fromkeys(("bert", "electra", "layoutlm", "roberta", "xlm-roberta"), _BERT),
    **dict.fromkeys(("RefinedWeb", "RefinedWebModel", "bloom", "chatglm", "falcon", "gpt_neox"), _FUSED),
    "blip-2": ("q", "v", "q_proj", "v_proj"),
    "btlm": ("c_proj", "c_attn"),
    "codegen": ("qkv_proj",),
    "deberta": ("in_proj",),
    "deberta-v2": ("query_proj", "value_proj"),
    "gemma4": r".*language_model\..*\.(q_proj|v_proj)",
    "gpt2": ("c_attn",),
    "gpt_bigcode": ("c_attn",),
    "mpt": ("Wqkv",),
    "nemotron_h": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "phi": ("q_proj", "v_proj", "fc1", "fc2"),
    "rwkv": ("key", "value", "receptance", "output"),
    "rwkv7": ("r_proj", "k_proj", "v_proj", "o_proj", "key", "value"),
}  # fmt: skip
"""`target_modules` that PEFT takes by model type where none are given
(`TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING` in peft/utils/constants.py)."""

EMBEDDING_NAMES = ("embed_tokens", "lm_head")
"""Last segments that PEFT takes for input and output embeddings (`EMBEDDING_LAYER_NAMES`)."""

MAMBA_TYPES = frozenset({"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"})
MAMBA_MODULES = frozenset({"conv1d", "out_proj"})
"""Modules that PEFT refuses in those model types (`_check_lora_target_modules_mamba`)."""

SAVED_BY_TASK: Mapping[str, tuple[str, ...]] = {
    "SEQ_CLS": ("classifier", "score"),
    "TOKEN_CLS": ("classifier", "score"),
    "QUESTION_ANS": ("qa_outputs",),
}
"""`modules_to_save` that PEFT adds for a task (the PeftModelFor… classes in peft/peft_model.py)."""

RENAMED_EXPERTS: Mapping[str, Mapping[str, str]] = {
    "mixtral": {"gate": "gate.weight", "w1": "gate_up_proj", "w3": "gate_up_proj", "w2": "down_proj"},
    "qwen2_moe": {
        "gate": "gate.weight",
        "gate_proj": "gate_up_proj",
        "up_proj": "gate_up_proj",
        "down_proj": "down_proj",
    },
}
"""Parameters of transformers 5 for the module names of transformers 4, by family of experts
(`_MOE_TARGET_MODULE_MAPPING` in peft/utils/transformers_weight_conversion.py)."""

FUSED_EXPERTS: Mapping[str, tuple[str, ...]] = {
    "mixtral": ("w1", "w3"),
    "qwen2_moe": ("gate_proj", "up_proj"),
}
"""The names that became `gate_up_proj` and are converted together or not at all (`_MOE_FUSED_TARGETS`)."""

_EXPERT_FAMILIES: Mapping[str, tuple[str, ...]] = {
    "mixtral": ("minimax", "minimax_m2", "mixtral"),
    "qwen2_moe": (
        "Dots3NoteTextModel", "UnlimitedOcrTextModel", "afmoe", "beam", "cohere2_moe", "deepseek_v2",
        "deepseek_v3", "deepseek_v32", "dots1", "ernie4_5_moe", "exaone_moe", "flex_olmo", "glm4_moe",
        "glm4_moe_lite", "glm4v_moe", "glm_moe_dsa", "hunyuan_v1_moe", "longcat_flash", "mellum", "olmoe",
        "qwen3_moe", "qwen3_next", "qwen3_omni_moe", "qwen3_omni_moe_text", "qwen3_omni_moe_thinker",
        "solar_open",
    ),
}  # fmt: skip
_FAMILY_OF = {model_type: family for family, types in _EXPERT_FAMILIES.items() for model_type in types}


def is_refused_in_mamba(path: str, model_type: str) -> bool:
    """Return whether PEFT refuses to adapt the module at `path` because fused kernels read past it."""
    return model_type in MAMBA_TYPES and path.rpartition(".")[2] in MAMBA_MODULES


def renamed_experts(model_type: str) -> str | None:
    """Return the family under which PEFT rewrites the expert names of `model_type`, None where it does not.

    That is `_MODEL_TO_CONVERSION_PATTERN` of transformers with PEFT's addition of mixtral itself;
    qwen2_moe, whose name the larger family bears, is not in it.
    """
    return _FAMILY_OF.get(model_type)
