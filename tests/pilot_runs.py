"""A real pilot of seconds: a tiny model with weights and tokenizer in a folder, and data in a file."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["OPTIONS", "WORDS", "make_data", "make_model", "make_tokenizer", "run_pilot"]

WORDS = (
    "the",
    "cat",
    "dog",
    "sees",
    "likes",
    "a",
    "red",
    "blue",
    "house",
    "tree",
    "and",
    "runs",
    "sleeps",
    "now",
)
OPTIONS: dict[str, Any] = {
    "candidates": ["attention", "mlp"],
    "steps": 12,
    "batch_size": 2,
    "max_length": 16,
    "learning_rate": 5e-3,
    "rank": 2,
    "rungs": (0.25,),
    "seeds": (0, 1),
    "evaluations": 3,
    "tuning_items": 8,
    "test_items": 8,
    "resamples": 200,
    "device": "cpu",
}
"""A pilot with a rung, two seeds and a rerun, of some dozens of steps."""


def make_tokenizer(folder: Path) -> None:
    """Write a tokenizer that knows whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ("<pad>", "<eos>", "<unk>", "<mask>")
    vocabulary = {word: index for index, word in enumerate((*special, *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106 - no password
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",  # noqa: S106
        eos_token="<eos>",  # noqa: S106
        unk_token="<unk>",  # noqa: S106
        mask_token="<mask>",  # noqa: S106
    ).save_pretrained(folder)


def make_model(folder: Path, architecture: str = "Llama", head: str = "ForCausalLM", **config: Any) -> Path:
    """Write a model of a few thousand parameters with its tokenizer; return the folder."""
    import transformers

    usual = {
        "vocab_size": 32,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 32,
        "pad_token_id": 0,
    }
    torch.manual_seed(0)
    chosen = getattr(transformers, f"{architecture}Config")(**{**usual, **config})
    getattr(transformers, architecture + head)(chosen).save_pretrained(folder)
    make_tokenizer(folder)
    return folder


def make_data(path: Path, *, rows: int = 160, seed: int = 0, labels: bool = False) -> Path:
    """Write JSON Lines with sentences of a few words; with `labels`, each has one of two classes."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    lines = []
    for _ in range(rows):
        words = draw.choices(WORDS, k=draw.randint(4, 12))
        row: dict[str, Any] = {"text": " ".join(words)}
        if labels:
            row["label"] = "cat" if words.count("cat") > words.count("dog") else "dog"
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines) + "\n")
    return path


def run_pilot(model: str, data: str, out: str, options: dict[str, Any]) -> None:
    """Run a pilot, as another process is started for; the clock has no say in how trials are spread."""
    from lora_probe.piloting.engine import choosing
    from lora_probe.piloting.run import pilot

    torch.set_num_threads(2)
    vars(choosing)["measured_layouts"] = lambda _engine, _trials, layouts: {layouts[0]: 1.0}
    pilot(model, data, out=out, **options)
