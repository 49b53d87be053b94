"""Tokens and labels of causal language models, as TRL's `SFTTrainer` makes them (checked against TRL 1.16).

Texts get the end-of-sequence token unless they end with it; conversations are what the chat template says.
Prompt and completion are tokenized together, and the completion begins where the tokens of both depart from
those of the prompt alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_probe.piloting.data.chat import assistant_mask, conversation_ids, require_template
from lora_probe.piloting.data.examples import IGNORED, TrainOn
from lora_probe.piloting.data.layouts import Kind
from lora_probe.piloting.data.tokenized import AT_ONCE, Tokenized
from lora_probe.piloting.errors import BadDataOption

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lora_probe.piloting.data.contents import Content

__all__ = ["tokenize_language"]


def tokenize_language(
    contents: Sequence[Content], kind: Kind, *, tokenizer: Any, train_on: TrainOn, max_length: int
) -> Iterator[Tokenized]:
    """Yield each content's tokens and labels, the first `max_length` of them.

    Raises:
        BadDataOption: `train_on` asks for what the rows do not tell apart.
        UnfitTokenizer: conversations and no chat template.
        BadExample: a conversation that the template refuses.

    """
    spoken = any(not isinstance(cell, str) for content in contents[:1] for cell in _said(content))
    if train_on is TrainOn.COMPLETION and kind is not Kind.COMPLETION:
        raise BadDataOption(
            option="train on", value=train_on.value, problem=f"needs prompt and completion, not {kind}"
        )
    if train_on is TrainOn.ASSISTANT and not spoken:
        raise BadDataOption(
            option="train on", value=train_on.value, problem=f"needs conversations, not {kind} as texts"
        )
    if any(not isinstance(cell, str) for content in contents for cell in _said(content)):
        require_template(tokenizer)
    made: Iterable[tuple[list[int], list[bool]]]
    if kind is Kind.COMPLETION:
        made = _completions(contents, tokenizer, train_on)
    elif kind is Kind.CONVERSATION:
        made = (
            _conversation(tokenizer, content.cells["messages"], content, train_on) for content in contents
        )
    else:
        ended = [_ended(content.cells["text"], tokenizer) for content in contents]
        made = ((ids, [True] * len(ids)) for ids in _plain(tokenizer, ended))
    for ids, mask in made:
        labels = [token if trained else IGNORED for token, trained in zip(ids, mask, strict=True)]
        yield Tokenized(input_ids=ids[:max_length], labels=labels[:max_length], length=len(ids))


def _said(content: Content) -> Iterator[Any]:
    return (
        content.cells[meaning] for meaning in ("prompt", "completion", "messages") if meaning in content.cells
    )


def _completions(
    contents: Sequence[Content], tokenizer: Any, train_on: TrainOn
) -> Iterator[tuple[list[int], list[bool]]]:
    texts = [content for content in contents if isinstance(content.cells["prompt"], str)]
    prompts = _plain(tokenizer, [content.cells["prompt"] for content in texts])
    ended = [content.cells["prompt"] + _ended(content.cells["completion"], tokenizer) for content in texts]
    wholes = _plain(tokenizer, ended)
    for content in contents:
        if isinstance(content.cells["prompt"], str):
            prompt, ids = next(prompts), next(wholes)
            mask = [True] * len(ids)
        else:
            prompt = conversation_ids(tokenizer, content.cells["prompt"], content, reply_follows=True)
            messages = content.cells["prompt"] + content.cells["completion"]
            ids, mask = _conversation(tokenizer, messages, content, train_on)
        if train_on is not TrainOn.ALL:
            begin = _shared(prompt, ids)
            mask = [trained and place >= begin for place, trained in enumerate(mask)]
        yield ids, mask


def _conversation(
    tokenizer: Any, messages: Sequence[dict[str, Any]], content: Content, train_on: TrainOn
) -> tuple[list[int], list[bool]]:
    if train_on is TrainOn.ASSISTANT:
        return assistant_mask(tokenizer, messages, content)
    ids = conversation_ids(tokenizer, messages, content)
    return ids, [True] * len(ids)


def _plain(tokenizer: Any, texts: Sequence[str]) -> Iterator[list[int]]:
    """Yield the tokens of each text; some at a time, because what a tokenizer returns takes much memory."""
    for start in range(0, len(texts), AT_ONCE):
        yield from tokenizer(list(texts[start : start + AT_ONCE]), verbose=False)["input_ids"]


def _ended(text: str, tokenizer: Any) -> str:
    end = tokenizer.eos_token
    return text if end is None or text.endswith(end) else text + end


def _shared(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many tokens two sequences begin alike with."""
    alike = (place for place, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    return next(alike, min(len(first), len(second)))
