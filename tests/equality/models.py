"""Small models with random weights of every family, and of every habit that a stack has to bear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import transformers

from lora_probe.piloting.records import Task, Trial
from tests.peft_loop import candidate, plan_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from lora_probe.piloting.records import Plan

__all__ = [
    "FAMILIES",
    "HABITS",
    "HEADS",
    "SEQ2SEQ",
    "SMALL",
    "VOCABULARY",
    "Subject",
    "causal",
    "llama",
    "llava",
    "made",
    "trials_of",
]

VOCABULARY = 50
SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 32,
}
HEADS = {"num_key_value_heads": 1, "head_dim": 8}
SEQ2SEQ: dict[str, Any] = {
    "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "vocab_size": VOCABULARY,
    "max_position_embeddings": 40, "decoder_start_token_id": 2, "pad_token_id": 0,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A model, and the sets of its modules that trials adapt."""

    build: Callable[[], Any]
    sets: tuple[tuple[str, ...], ...]
    """Ends of the paths of each set's modules."""
    task: Task = Task.CAUSAL_LM
    where: str = ""
    """What the paths hold, besides."""

    def plan(self, base: nn.Module, **training: Any) -> Plan:
        """Return a plan with a candidate of another rank for each set."""
        transposed = isinstance(base, transformers.GPT2LMHeadModel)
        candidates = [
            candidate(
                base, str(index), *leaves, rank=2 + 3 * index, where=self.where, fan_in_fan_out=transposed
            )
            for index, leaves in enumerate(self.sets)
        ]
        return plan_of(candidates, **training)


def trials_of(plan: Plan, count: int | None = None) -> list[Trial]:
    """Return trials, one more than candidates if not told, of different rates and seeds, out of order."""
    names = [each.name for each in plan.candidates]
    found = [
        Trial(candidate=names[index % len(names)], learning_rate=1e-2 / (1 + index % 3), seed=index // 2)
        for index in range(count or len(names) + 1)
    ]
    return found[::-1]


def made(name: str, config: Any) -> Any:
    """Return a model of a class of transformers, whose weights are far from the usual tiny start."""
    torch.manual_seed(1)
    model = getattr(transformers, name)(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:  # so that every gradient says something
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def causal(architecture: str, **config: Any) -> Any:
    """Return a small causal model."""
    chosen = getattr(transformers, f"{architecture}Config")(**{**SMALL, **config})
    return made(f"{architecture}ForCausalLM", chosen)


def llama() -> Any:
    """Return a small Llama."""
    return causal("Llama", num_key_value_heads=1)


def _bart() -> Any:
    model = made("BartForConditionalGeneration", transformers.BartConfig(**SEQ2SEQ))
    model.final_logits_bias.normal_()
    return model


def _gemma4() -> Any:
    kinds = ["sliding_attention", "full_attention"] * 2
    config = transformers.Gemma4TextConfig(
        **{**SMALL, **HEADS, "num_hidden_layers": 4}, global_head_dim=8, num_kv_shared_layers=2,
        layer_types=kinds, vocab_size_per_layer_input=VOCABULARY, hidden_size_per_layer_input=8,
    )  # fmt: skip
    return made("Gemma4ForCausalLM", config)


def llava() -> Any:
    """Return a small model that sees."""
    seeing = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=8,
        patch_size=4,
    )  # fmt: skip
    config = transformers.LlavaConfig(
        text_config=transformers.LlamaConfig(**SMALL), vision_config=seeing, image_token_index=VOCABULARY - 1
    )
    return made("LlavaForConditionalGeneration", config)


def encoder(name: str, **config: Any) -> Any:
    """Return a small masked language model."""
    return made(f"{name}ForMaskedLM", getattr(transformers, f"{name}Config")(**{**SMALL, **config}))


FAMILIES = {
    "llama": Subject(build=llama, sets=(("q_proj", "v_proj"), ("down_proj", "o_proj"), ("lm_head",))),
    "gpt2": Subject(
        build=lambda: made(
            "GPT2LMHeadModel", transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=VOCABULARY)
        ),
        sets=(("c_attn",), ("c_fc", "c_proj")),
    ),
    "bert": Subject(
        build=lambda: encoder("Bert"), sets=(("query", "value"), ("dense",)), task=Task.MASKED_LM
    ),
    "t5": Subject(
        build=lambda: made(
            "T5ForConditionalGeneration",
            transformers.T5Config(
                d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, vocab_size=VOCABULARY,
                decoder_start_token_id=0,
            ),
        ),
        sets=(("q", "v"), ("wi", "wo")),
        task=Task.SEQ2SEQ,
    ),
    "mixture of experts": Subject(
        build=lambda: causal(
            "Qwen2Moe", num_key_value_heads=2, moe_intermediate_size=12, num_experts=4,
            num_experts_per_tok=2, shared_expert_intermediate_size=12,
        ),
        sets=(("q_proj", "v_proj"), ("up_proj", "down_proj", "shared_expert_gate")),
    ),
    "state space": Subject(
        build=lambda: made(
            "MambaForCausalLM",
            transformers.MambaConfig(
                hidden_size=16, num_hidden_layers=2, state_size=4, vocab_size=VOCABULARY
            ),
        ),
        sets=(("in_proj",), ("in_proj", "x_proj")),
    ),
    "hybrid": Subject(
        build=lambda: causal(
            "Lfm2", num_key_value_heads=2, layer_types=["conv", "full_attention", "conv"], block_multiple_of=8
        ),
        sets=(("q_proj", "v_proj"), ("in_proj", "w1")),
    ),
}  # fmt: skip
HABITS = {
    "capped logits": Subject(
        build=lambda: causal("Gemma2", **HEADS), sets=(("q_proj", "v_proj"), ("down_proj",))
    ),
    "scaled logits": Subject(
        build=lambda: causal("Granite", logits_scaling=3.0), sets=(("q_proj",), ("up_proj",))
    ),
    "norms of heads": Subject(
        build=lambda: causal("Qwen3", **HEADS), sets=(("q_proj", "k_proj"), ("gate_proj",))
    ),
    "a tied head that is adapted": Subject(
        build=lambda: causal("Qwen3", **HEADS, tie_word_embeddings=True),
        sets=(("lm_head", "v_proj"), ("up_proj",)),
    ),
    "biases": Subject(build=lambda: causal("Phi"), sets=(("q_proj", "dense"), ("fc1", "lm_head"))),
    "a state space beside attention": Subject(
        build=lambda: causal(
            "Jamba", num_hidden_layers=4, num_key_value_heads=1, attn_layer_period=2, attn_layer_offset=1,
            expert_layer_period=2, expert_layer_offset=1, num_experts=2, num_experts_per_tok=1,
            mamba_d_state=4, mamba_dt_rank=4,
        ),
        sets=(("q_proj", "v_proj"), ("in_proj", "x_proj", "dt_proj")),
    ),
    "a block that is used again": Subject(
        build=lambda: causal(
            "Zamba", num_hidden_layers=5, num_key_value_heads=2, attn_layer_period=2, attn_layer_offset=1,
            mamba_d_state=4, n_mamba_heads=2, mamba_dt_rank=4,
        ),
        sets=(("q_proj", "v_proj"), ("in_proj",)),
    ),
    "keys that upper layers share": Subject(build=_gemma4, sets=(("q_proj",), ("down_proj",)), where=".3."),
    "the text of a model that sees": Subject(
        build=llava, sets=(("q_proj",), ("down_proj",)), where="language"
    ),
    "a bias on logits": Subject(
        build=_bart, sets=(("q_proj", "v_proj"), ("fc1", "fc2")), task=Task.SEQ2SEQ
    ),
    "decoder inputs that only forward makes": Subject(
        build=lambda: made("M2M100ForConditionalGeneration", transformers.M2M100Config(**SEQ2SEQ)),
        sets=(("q_proj", "v_proj"), ("fc1",)),
        task=Task.SEQ2SEQ,
    ),
    "layers that share weights": Subject(
        build=lambda: encoder("Albert", embedding_size=8),
        sets=(("query", "value"), ("ffn",)),
        task=Task.MASKED_LM,
    ),
    "a tied head with a bias": Subject(
        build=lambda: encoder("Roberta", max_position_embeddings=40, pad_token_id=0),
        sets=(("query", "value"), ("dense",)),
        task=Task.MASKED_LM,
    ),
}  # fmt: skip
