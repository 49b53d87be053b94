"""How the model of the demo was made: ``python -m lora_probe.piloting.demo.training FOLDER``.

A byte-level BPE tokenizer and a Llama of one million parameters, both trained from nothing on the source
files of the running Python's standard library. The shipped checkpoint came from Python 3.11, in seven minutes
on one core; another Python has other files, and so gives another model of the same kind.
"""

from __future__ import annotations

import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

__all__ = ["main", "make_model", "source_texts"]

END, PADDING = "<|end|>", "<|padding|>"
VOCABULARY = 2048
CONTEXT = 128
"""Tokens of one row, in training and as the model's limit."""
BATCH, STEPS, PEAK_RATE, WARMUP = 16, 1500, 4e-3, 75
SEED = 20260101
_LEFT_OUT = frozenset(
    {"encodings", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages", "test", "tests"}
)
"""Folders of tables and tests, and the text that the demo fine-tunes on."""


def source_texts(library: Path) -> list[str]:
    """Return the source files under `library` that the model learns from, in the order of their paths."""
    found = sorted(library.rglob("*.py"))
    paths = (path for path in found if not _LEFT_OUT & set(path.relative_to(library).parts))
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in paths)
    return [text for text in texts if text.strip()]


def make_model(folder: Path, *, steps: int = STEPS) -> None:
    """Train tokenizer and model, and write them to `folder` as `from_pretrained` reads them, in bfloat16."""
    import torch

    texts = source_texts(Path(sysconfig.get_path("stdlib")))
    tokenizer = _train_tokenizer(texts)
    encoded = tokenizer.backend_tokenizer.encode_batch([text + END for text in texts])
    ids = torch.tensor([token for text in encoded for token in text.ids])
    torch.manual_seed(SEED)
    model = _new_model(tokenizer)
    _train(model, ids, steps=steps)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END, PADDING],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=PADDING,
        model_max_length=CONTEXT,
    )


def _new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _train(model: LlamaForCausalLM, ids: Tensor, *, steps: int) -> None:
    import torch
    from transformers import get_cosine_schedule_with_warmup

    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = get_cosine_schedule_with_warmup(optimizer, steps * WARMUP // STEPS, steps)
    begun = time.monotonic()
    for step, rows in zip(range(steps), _batches(ids), strict=False):
        loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 50 == 0 or step == steps - 1:
            sys.stderr.write(f"step {step:5d}  loss {loss.item():.3f}  {time.monotonic() - begun:6.0f} s\n")


def _batches(ids: Tensor) -> Iterator[Tensor]:
    """Yield rows of the text without end, each epoch in a new order: (BATCH, CONTEXT)."""
    import torch

    rows = ids[: len(ids) // CONTEXT * CONTEXT].view(-1, CONTEXT)  # (tokens,) -> (rows, CONTEXT)
    while True:
        for chosen in torch.split(torch.randperm(len(rows)), BATCH):
            if len(chosen) == BATCH:
                yield rows[chosen]


def main() -> None:
    """Write the model to the folder that the command line names."""
    if len(sys.argv) != 2:  # noqa: PLR2004 - the script and its one argument
        sys.exit("usage: python -m lora_probe.piloting.demo.training FOLDER")
    make_model(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
