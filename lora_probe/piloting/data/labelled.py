"""Tokens and labels of every task other than causal language modelling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_probe.piloting.data.examples import IGNORED
from lora_probe.piloting.data.tokenized import Tokenized, encode
from lora_probe.piloting.errors import BadExample, UnfitTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lora_probe.piloting.data.contents import Content

__all__ = [
    "tokenize_classified",
    "tokenize_masked",
    "tokenize_tagged",
    "tokenize_targets",
]


def tokenize_masked(contents: Sequence[Content], *, tokenizer: Any, max_length: int) -> Iterator[Tokenized]:
    """Yield the tokens of texts; labels are the same where a token may be masked.

    Raises:
        UnfitTokenizer: there is no mask token.

    """
    if tokenizer.mask_token_id is None:
        raise UnfitTokenizer(
            problem="has no mask token, which a masked language model needs",
            advice="choose another task for this model",
        )
    for made in encode(tokenizer, [content.cells["text"] for content in contents], max_length=max_length):
        labels = [
            IGNORED if special else token for token, special in zip(made.input_ids, made.special, strict=True)
        ]
        yield Tokenized(
            input_ids=made.input_ids, labels=labels, token_type_ids=made.token_type_ids, length=made.length
        )


def tokenize_targets(contents: Sequence[Content], *, tokenizer: Any, max_length: int) -> Iterator[Tokenized]:
    """Yield the tokens of sources, with those of their targets as labels; each is cut by itself.

    Raises:
        BadExample: a side is not a text.

    """
    for content in contents:
        if not (isinstance(content.cells["prompt"], str) and isinstance(content.cells["completion"], str)):
            raise BadExample(
                where=content.place, problem="source and target must be texts, not conversations"
            )
    sources = encode(tokenizer, [content.cells["prompt"] for content in contents], max_length=max_length)
    targets = encode(
        tokenizer, [content.cells["completion"] for content in contents], max_length=max_length, target=True
    )
    for source, target in zip(sources, targets, strict=True):
        longer = max(source.length, target.length)
        yield Tokenized(input_ids=source.input_ids, labels=target.input_ids, length=longer)


def tokenize_classified(
    contents: Sequence[Content], *, classes: Mapping[str, int], tokenizer: Any, max_length: int
) -> Iterator[Tokenized]:
    """Yield the tokens of texts, or of pairs of texts, with one class each."""
    texts = [content.cells["text"] for content in contents]
    paired = any("text_pair" in content.cells for content in contents)
    pairs = [content.cells.get("text_pair", "") for content in contents] if paired else None
    for content, made in zip(contents, encode(tokenizer, texts, pairs, max_length=max_length), strict=True):
        yield Tokenized(
            input_ids=made.input_ids,
            labels=(classes[str(content.cells["label"])],),
            token_type_ids=made.token_type_ids,
            length=made.length,
        )


def tokenize_tagged(
    contents: Sequence[Content], *, classes: Mapping[str, int], tokenizer: Any, max_length: int
) -> Iterator[Tokenized]:
    """Yield the tokens of lists of words; the first token of a word carries its label, the rest none.

    Raises:
        UnfitTokenizer: it cannot tell which word a token came from.

    """
    if not getattr(tokenizer, "is_fast", False):
        raise UnfitTokenizer(
            problem="cannot tell which word a token came from",
            advice="install the tokenizers library's variant of it",
        )
    needs_spaces = _needs_spaces(tokenizer)
    for content in contents:
        words, labels = content.cells["tokens"], content.cells["labels"]
        if needs_spaces:
            words = [words[0], *(f" {word}" for word in words[1:])]
        made = _words(tokenizer, words)
        length = len(made["input_ids"])
        if length > max_length:
            made = _words(tokenizer, words, truncation=True, max_length=max_length)
        of_word = made.word_ids()
        firsts = [
            word is not None and word != before
            for word, before in zip(of_word, [None, *of_word], strict=False)
        ]
        marks = [
            _class(labels[word], classes) if first else IGNORED
            for word, first in zip(of_word, firsts, strict=True)
        ]
        yield Tokenized(
            input_ids=made["input_ids"],
            labels=marks,
            token_type_ids=made.get("token_type_ids"),
            length=length,
        )


def _words(tokenizer: Any, words: Sequence[str], **how: Any) -> Any:
    return tokenizer(list(words), is_split_into_words=True, verbose=False, **how)


def _needs_spaces(tokenizer: Any) -> bool:
    """Tell whether the tokenizer runs split words together, as byte-level ones without a prefix space do."""
    split, joined = _words(tokenizer, ["a", "a"]), tokenizer("a a", verbose=False)
    return list(split["input_ids"]) != list(joined["input_ids"])


def _class(label: str | int, classes: Mapping[str, int]) -> int:
    return IGNORED if label == IGNORED else classes[str(label)]
