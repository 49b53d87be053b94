"""Tokens and labels of one example, before it is known which part it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["AT_ONCE", "Encoded", "Tokenized", "encode"]

AT_ONCE = 1000
"""Texts that a tokenizer gets in one call."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokenized:
    """One example as the model sees it."""

    input_ids: Sequence[int]
    labels: Sequence[int]
    token_type_ids: Sequence[int] | None = None
    length: int
    """Tokens before anything was cut; of the longer side, where there are two."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """What a tokenizer makes of one text, or of two."""

    input_ids: Sequence[int]
    special: Sequence[int]
    """1 for tokens that the tokenizer put around the text."""
    token_type_ids: Sequence[int] | None
    length: int


def encode(
    tokenizer: Any,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    max_length: int,
    target: bool = False,
) -> Iterator[Encoded]:
    """Yield the tokens of each text (and its pair), cut to `max_length` with special tokens kept.

    `target` asks for the tokens of what a sequence-to-sequence model is to write.
    """
    for start in range(0, len(texts), AT_ONCE):
        some = slice(start, start + AT_ONCE)
        first, second = list(texts[some]), list(pairs[some]) if pairs is not None else None
        made = _call(tokenizer, first, second, target=target)
        for index, ids in enumerate(made["input_ids"]):
            row, place = made, index
            if len(ids) > max_length:
                pair = [second[index]] if second is not None else None
                cut = {"truncation": True, "max_length": max_length}
                row, place = _call(tokenizer, [first[index]], pair, target=target, **cut), 0
            types = row.get("token_type_ids")
            yield Encoded(
                input_ids=row["input_ids"][place],
                special=row["special_tokens_mask"][place],
                token_type_ids=types[place] if types is not None else None,
                length=len(ids),
            )


def _call(tokenizer: Any, texts: list[str], pairs: list[str] | None, *, target: bool, **how: Any) -> Any:
    told = {"text_target": texts} if target else {"text": texts, "text_pair": pairs}
    return tokenizer(**told, return_special_tokens_mask=True, verbose=False, **how)
