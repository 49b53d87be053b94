"""Tokens and labels of one example, before it is known which part it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Tokenized", "encode"]


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
) -> list[Encoded]:
    """Return the tokens of each text (and its pair), cut to `max_length` with special tokens kept.

    `target` asks for the tokens of what a sequence-to-sequence model is to write.
    """

    def call(first: Sequence[str], second: Sequence[str] | None, **how: Any) -> Any:
        told = {"text_target": list(first)} if target else {"text": list(first), "text_pair": second}
        return tokenizer(**told, return_special_tokens_mask=True, verbose=False, **how)

    made = call(texts, list(pairs) if pairs is not None else None)
    found = []
    for index, ids in enumerate(made["input_ids"]):
        row, place = made, index
        if len(ids) > max_length:
            pair = [pairs[index]] if pairs is not None else None
            row, place = call([texts[index]], pair, truncation=True, max_length=max_length), 0
        types = row.get("token_type_ids")
        found.append(
            Encoded(
                input_ids=row["input_ids"][place],
                special=row["special_tokens_mask"][place],
                token_type_ids=types[place] if types is not None else None,
                length=len(ids),
            )
        )
    return found
