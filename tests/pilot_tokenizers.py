"""Tokenizers small enough to follow by hand: bytes, a few merges, and what special tokens a test asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

if TYPE_CHECKING:
    from collections.abc import Sequence

CHATML = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As many models have it: nothing marks the assistant's turns."""
MARKED = (
    "{{ bos_token }}{% if tools %}[{% for tool in tools %}{{ tool.name }};{% endfor %}]{% endif %}"
    "{% for message in messages %}{% if message.role == 'assistant' %}<|im_start|>assistant\n"
    "{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}\n"
    "{% else %}<|im_start|>{{ message.role }}\n{{ message.content }}{{ suffix }}<|im_end|>\n{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Marks the assistant's turns, knows tools and a setting of its own."""
THINKING = CHATML.replace("assistant\n{% endif %}", "assistant\n<think></think>\n{% endif %}")
"""Asks for a reply with words that the conversation does not keep."""
MERGES = (("l", "o"), ("h", "e"), ("Ġ", "t"), ("i", "n"), ("Ġt", "he"), ("a", "n"), ("Ċ", "Ċ"))


def byte_tokenizer(
    *,
    bos: str | None = None,
    eos: str | None = "<|end|>",
    pad: str | None = None,
    mask: str | None = None,
    template: str | None = None,
    pairs: bool = False,
    prefix_space: bool = False,
) -> Any:
    """Return a byte-level BPE tokenizer; with `pairs` it frames texts as BERT does, in [CLS] and [SEP]."""
    from transformers import PreTrainedTokenizerFast

    frame = ("[CLS]", "[SEP]") if pairs else ()
    special: Sequence[str] = [
        token for token in (bos, eos, pad, mask, *frame, "<|im_start|>", "<|im_end|>") if token is not None
    ]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*special, *letters, *("".join(merge) for merge in MERGES)]
    vocabulary = {word: number for number, word in enumerate(words)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=list(MERGES)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True) for token in special])
    if pairs:
        backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[(token, vocabulary[token]) for token in frame],
        )
    elif bos is not None:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, vocabulary[bos])]
        )
    named = {"bos_token": bos, "eos_token": eos, "pad_token": pad, "mask_token": mask}
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, **{name: token for name, token in named.items() if token is not None}
    )
    made.chat_template = template
    if pairs:
        made.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return made
