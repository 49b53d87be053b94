"""Ranks that a person asks for, checked before anything is counted."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING

from lora_probe.errors import BadQuantity, BadRank

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["RANKS", "read_ranks", "read_set_at_rank"]

RANKS = (8, 16, 32)
"""Ranks of a budget that asks for none and sets no limit."""
_HIGHEST = 2**20
"""The width of no matrix of any model."""


def read_ranks(ranks: int | Iterable[int], *, where: str = "ranks") -> tuple[int, ...]:
    """Return one or more ranks, each once, in the order in which they are given.

    Raises:
        BadRank: one is no whole number from 1 to 2**20, or there is none.

    """
    given = ranks if hasattr(ranks, "__iter__") else (ranks,)
    found = dict.fromkeys(_read(rank, where=where) for rank in given)
    if not found:
        raise BadRank(rank="nothing", problem="must be given", where=where)
    return tuple(found)


def read_set_at_rank(text: str, *, option: str = "equal_to") -> tuple[str, int]:
    """Return the two halves of ``SPEC:r=N``.

    Raises:
        BadQuantity: there is no ``:r=`` or no whole number after it; the message names `option`.
        BadRank: the number is no rank.

    """
    targets, found, rank = text.rpartition(":r=")
    if not found or not targets or not (rank.isascii() and rank.isdigit()):
        raise BadQuantity(
            option=option, text=text, problem="names no set and rank", example="attention.q:r=8"
        )
    return targets, _read(int(rank) if len(rank) < len(str(_HIGHEST)) + 1 else _HIGHEST + 1, where=text)


def _read(rank: object, *, where: str) -> int:
    if isinstance(rank, bool) or not hasattr(rank, "__index__"):
        raise BadRank(rank=rank, problem="must be a whole number", where=where)
    value = index(rank)
    if value < 1:
        raise BadRank(rank=value, problem="must be at least 1", where=where)
    if value > _HIGHEST:
        raise BadRank(rank=value, problem=f"must be at most {_HIGHEST}, the width of no matrix", where=where)
    return value
