"""Words of the command line that say what a `LoraConfig` holds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lora_probe.errors import BadQuantity, BadRank

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "read_alpha_pattern",
    "read_names",
    "read_rank_pattern",
    "read_ranks",
    "read_set_at_rank",
    "read_tokens",
]

_TOKENS = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?", re.ASCII)
_MOST_TOKENS = 10**6
"""Rows beyond which a whole embedding is meant; no vocabulary has many more."""
_ALPHA = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)
_RANK = re.compile(r"[+-]?\d{1,40}", re.ASCII)
"""Any rank that a person means, in bounds or not."""


def read_ranks(text: str, *, option: str) -> tuple[int, ...]:
    """Return the ranks of ``8,16,32``, each once.

    Raises:
        BadRank: one is no rank.

    """
    return tuple(dict.fromkeys(_rank(word.strip(), option=option) for word in text.split(",")))


def read_set_at_rank(text: str, *, option: str) -> str:
    """Return `text` where it is ``SPEC:r=N``.

    Raises:
        BadQuantity: it is not.
        BadRank: the number is no rank.

    """
    from lora_probe.budgeting.ranks import read_set_at_rank as in_bounds

    in_bounds(text, option=option)
    return text


def read_names(text: str | None) -> tuple[str, ...]:
    """Return the names of ``lm_head,embed_tokens``."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def read_rank_pattern(words: Sequence[str], *, option: str) -> dict[str, int]:
    """Return the ranks of ``PATTERN=R``, by pattern.

    Raises:
        BadQuantity: there is no equals sign, or nothing before it.
        BadRank: what comes after it is no rank.

    """
    found = {}
    for word in words:
        pattern, _, rank = word.rpartition("=")
        if not pattern:
            raise BadQuantity(
                option=option, text=word, problem="names no pattern and rank", example="mlp.down_proj=4"
            )
        found[pattern] = _rank(rank, option=option)
    return found


def read_alpha_pattern(words: Sequence[str], *, option: str) -> dict[str, float]:
    """Return the alphas of ``PATTERN=A``, by pattern.

    Raises:
        BadQuantity: there is no equals sign, nothing before it, or no positive number after it.

    """
    found = {}
    for word in words:
        pattern, _, text = word.rpartition("=")
        alpha = float(text) if _ALPHA.fullmatch(text) else 0.0
        if not pattern or not alpha:
            raise BadQuantity(
                option=option, text=word, problem="names no pattern and alpha", example="mlp.down_proj=8"
            )
        found[pattern] = int(alpha) if alpha.is_integer() else alpha
    return found


def read_tokens(words: Sequence[str], *, option: str) -> tuple[int, ...] | dict[str, tuple[int, ...]] | None:
    """Return the rows of ``0,5`` and ``128000-128009``, by module where ``NAME=`` stands before them.

    Without any word there is nothing to train: None.

    Raises:
        BadQuantity: something is no index or range, there are too many, or some have a name and some not.

    """
    found: dict[str, tuple[int, ...]] = {}
    for word in words:
        name, _, indices = word.rpartition("=")
        found[name] = found.get(name, ()) + _indices(indices, option=option)
    if "" not in found:
        return found or None
    if len(found) > 1:
        raise BadQuantity(
            option=option, text=words[-1], problem="has a module's name and another has none", example="0,5-9"
        )
    return found[""]


def _indices(text: str, *, option: str) -> tuple[int, ...]:
    found: list[int] = []
    for item in text.split(","):
        match = _TOKENS.fullmatch(item.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise BadQuantity(option=option, text=text, problem="holds no token index", example="0,5-9")
        if last - first + len(found) >= _MOST_TOKENS:
            raise BadQuantity(option=option, text=text, problem="are too many tokens", example="0,5-9")
        found += range(first, last + 1)
    return tuple(found)


def _rank(word: str, *, option: str) -> int:
    from lora_probe.budgeting.ranks import read_ranks as in_bounds

    if not _RANK.fullmatch(word):
        raise BadRank(rank=repr(word), problem="must be a whole number", where=option)
    (rank,) = in_bounds(int(word), where=option)
    return rank
