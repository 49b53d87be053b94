"""A small model, the same model changed in known modules, and text that the changed one wrote."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor
    from transformers import LlamaForCausalLM

__all__ = ["BUDGET", "RANK", "SETS", "Planting", "plant"]

SETS: Mapping[str, tuple[str, ...]] = {
    "attention.q": ("self_attn.q_proj",),
    "attention.k": ("self_attn.k_proj",),
    "attention.v": ("self_attn.v_proj",),
    "attention.o": ("self_attn.o_proj",),
    "mlp.gate": ("mlp.gate_proj",),
    "mlp.up": ("mlp.up_proj",),
    "mlp.down": ("mlp.down_proj",),
    "attention.q+attention.v": ("self_attn.q_proj", "self_attn.v_proj"),
    "attention.o+mlp.down": ("self_attn.o_proj", "mlp.down_proj"),
    "attention.v+attention.o+mlp.down": ("self_attn.v_proj", "self_attn.o_proj", "mlp.down_proj"),
}
"""Every set that is planted and every decoy, as `resolve` reads it; with the names of its modules."""

WIDTH, LAYERS, VOCABULARY = 64, 2, 64
HEADS = 8
"""Narrow ones: what a low-rank update of q does, k can do only as far as it lies within each head's few
dimensions, and likewise o for v. With one wide head they could stand in for each other."""
RANK = 6
"""Of an update of one role; several roles share it. All matrices are square, so that each set at its share
trains the same number of parameters, to the last one."""
BUDGET = LAYERS * RANK * 2 * WIDTH
LENGTH = 20
"""Words of one example."""
DIVERGENCE = 0.5
"""Of the base from the changed model, in nats per token: what can be learned. The size of the update is
solved for it, whatever the roles."""
_SHARPNESS = 2.5
"""Standard deviation of logits: at 0 every word would be as likely as any other."""
_SCALE = 1.3
"""Of the weights, so that attention looks somewhere and every role matters."""
_PROBED = 128
_HALVINGS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Planting:
    """What was planted, and where the files lie that a pilot is given."""

    planted: str | None
    """The set whose modules were changed; None where the text comes from the base itself."""
    model: Path
    data: Path
    divergence: float
    """Of the base from the changed model, nats per token."""
    entropy: float
    """Of the changed model, nats per token: no arm can do better than this, except by luck."""


def plant(folder: Path, planted: str | None, *, number: int, examples: int) -> Planting:
    """Write a base model, and `examples` texts drawn from it after a low-rank change of the `planted` set.

    `number` seeds everything: the base, the change and the text.
    """
    base, changed = _base(number), _base(number)
    divergence, entropy = _compare(base, changed, number)
    if planted is not None:
        divergence, entropy = _change(base, changed, SETS[planted], number)
    model, data = folder / "model", folder / "data.jsonl"
    base.save_pretrained(model)
    _tokenizer().save_pretrained(model)
    rows = _write(changed, examples, seed=3 * number + 1).tolist()
    data.write_text("".join(f"{json.dumps({'text': _text(row)})}\n" for row in rows), encoding="utf-8")
    return Planting(planted=planted, model=model, data=data, divergence=divergence, entropy=entropy)


def _base(number: int) -> LlamaForCausalLM:
    from transformers import LlamaConfig, LlamaForCausalLM

    config: Any = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=HEADS, max_position_embeddings=LENGTH,
        tie_word_embeddings=False, bos_token_id=None, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    generator = torch.Generator().manual_seed(3 * number)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() < 2:  # norms
                continue
            scale = _SCALE / math.sqrt(weight.shape[1])
            if "embed" in name:
                scale = 1.0
            elif "lm_head" in name:
                scale = _SHARPNESS / math.sqrt(WIDTH)
            weight.copy_(scale * torch.randn(weight.shape, generator=generator))
    return model


@torch.no_grad()
def _change(
    base: LlamaForCausalLM, changed: LlamaForCausalLM, modules: tuple[str, ...], number: int
) -> tuple[float, float]:
    """Add a low-rank update, large enough that the models differ; return divergence and entropy."""
    generator = torch.Generator().manual_seed(3 * number + 2)
    rank = RANK // len(modules)
    weights, updates = [], []
    for layer in changed.model.layers:
        for module in modules:
            weight = layer.get_submodule(module).weight
            left, right = (
                torch.linalg.qr(torch.randn(size, rank, generator=generator))[0] for size in weight.shape
            )
            weights.append(weight)
            updates.append((weight.clone(), left @ right.T))  # singular values 1, `rank` times
    low, high = 0.0, 16.0
    for _ in range(_HALVINGS):
        size = (low + high) / 2
        for weight, (before, update) in zip(weights, updates, strict=True):
            weight.copy_(before + size * update)
        divergence, entropy = _compare(base, changed, number)
        low, high = (size, high) if divergence < DIVERGENCE else (low, size)
    return divergence, entropy


@torch.no_grad()
def _compare(base: LlamaForCausalLM, changed: LlamaForCausalLM, number: int) -> tuple[float, float]:
    """Return divergence of the base from the changed model, and the entropy of that one, on its own text."""
    ids = _write(changed, _PROBED, seed=3 * number + 1)
    ours = changed(ids).logits[:, :-1].log_softmax(-1)  # (B, T - 1, V)
    theirs = base(ids).logits[:, :-1].log_softmax(-1)
    likely = ours.exp()
    return float((likely * (ours - theirs)).sum(-1).mean()), float(-(likely * ours).sum(-1).mean())


@torch.no_grad()
def _write(model: LlamaForCausalLM, rows: int, *, seed: int) -> Tensor:
    """Return texts that a model wrote word by word, from a first word that is any: (rows, LENGTH)."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, VOCABULARY, (rows, 1), generator=generator)
    while ids.shape[1] < LENGTH:
        likely = model(ids).logits[:, -1].softmax(-1)
        ids = torch.cat([ids, torch.multinomial(likely, 1, generator=generator)], dim=1)
    return ids


def _tokenizer() -> Any:
    """Return a tokenizer with a word for each token; rows are equally long, so that none is padded."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({_word(token): token for token in range(VOCABULARY)}, _word(0)))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=_word(0))


def _text(row: list[int]) -> str:
    return " ".join(map(_word, row))


def _word(token: int) -> str:
    return f"w{token}"
