"""Paths that differ only in their numbers, written as one: ``model.layers.{0…31}.mlp.down_proj``.

A pattern is exact: what it expands to is what was collapsed, no more and no less. How it is written:

- ``{0…31}`` is every index of one unbroken range; ``{0,1}`` and a plain ``7`` are what they say;
- ``{3,7,11…47}`` goes on as it began, by the step between the two entries before the ellipsis;
- ``{0-2,4-6,8-10…44-46}`` is the same with ranges instead of single indices;
- anything less regular lists its ranges: ``{0-4,9,11}``.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import chain, product, zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Pattern", "collapse", "index_text"]

_SHOWN = 3
"""Entries that are written out before an ellipsis."""
_PAIR = 2
_INDEX = re.compile(r"(?<![0-9])(0|[1-9][0-9]{0,8})(?=\.|\Z)")
"""A number that ends a segment and that ``str(int())`` gives back: 7, not 07."""
_MAX_INDICES = 8
"""Numbers of one path that may vary; the rest of an absurdly nested name stays literal."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A set of dotted paths: the product of its pieces, each literal text or a sorted set of indices."""

    pieces: tuple[str | tuple[int, ...], ...]

    def __len__(self) -> int:
        """Return how many paths the pattern stands for."""
        return math.prod(len(piece) for piece in self.pieces if not isinstance(piece, str))

    def __iter__(self) -> Iterator[str]:
        """Iterate over the paths, the last index fastest."""
        choices = [[piece] if isinstance(piece, str) else map(str, piece) for piece in self.pieces]
        return map("".join, product(*choices))

    def __str__(self) -> str:
        """Return the pattern as a person reads it."""
        return "".join(piece if isinstance(piece, str) else index_text(piece) for piece in self.pieces)

    def split(self) -> tuple[Pattern, Pattern]:
        """Return the patterns of everything above the last segment, and of the last segment."""
        for place in range(len(self.pieces) - 1, -1, -1):
            piece = self.pieces[place]
            if isinstance(piece, str) and "." in piece:
                above, _, last = piece.rpartition(".")
                return Pattern((*self.pieces[:place], above)), Pattern((last, *self.pieces[place + 1 :]))
        return Pattern(()), self


def collapse(paths: Iterable[str]) -> list[Pattern]:
    """Return patterns that together expand to exactly `paths` (all different), in the order of first sight.

    The number that ends a segment may vary (``layers.7``, ``expert_7``), so layers x experts become one
    pattern. Where the indices are no product of sets (layer 3 has fewer experts than the rest), the first
    index is split until they are.
    """
    families: defaultdict[tuple[str, ...], list[tuple[int, ...]]] = defaultdict(list)
    for path in paths:
        literals, indices = _cut(path)
        families[literals].append(indices)
    return [
        Pattern(tuple(piece for piece in chain.from_iterable(zip_longest(literals, box)) if piece))
        for literals, points in families.items()
        for box in _boxes(points)
    ]


def index_text(indices: Sequence[int]) -> str:
    """Return sorted, distinct `indices` as written inside a pattern, in braces unless there is only one."""
    runs = _runs(indices)
    if len(indices) == 1:
        return str(indices[0])
    if len(runs) == 1:
        first, last = runs[0]
        return f"{{{first},{last}}}" if len(indices) == _PAIR else f"{{{first}…{last}}}"
    entries = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    text, start = "", 0
    while start < len(runs):
        regular = _regular_length(runs[start:])
        if regular > _SHOWN + 1:
            text += f",{','.join(entries[start : start + _SHOWN])}…{entries[start + regular - 1]}"
            start += regular
        else:
            text += f",{entries[start]}"
            start += 1
    return f"{{{text[1:]}}}"


def _cut(path: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the texts around the indices of `path`, and the indices."""
    pieces = _INDEX.split(path, maxsplit=_MAX_INDICES)
    return tuple(pieces[::2]), tuple(map(int, pieces[1::2]))


def _boxes(points: Sequence[tuple[int, ...]]) -> list[tuple[tuple[int, ...], ...]]:
    """Return disjoint products of index sets whose union is `points`."""
    if not points[0]:
        return [()]
    tails: defaultdict[int, list[tuple[int, ...]]] = defaultdict(list)
    for first, *rest in points:
        tails[first].append(tuple(rest))
    firsts: defaultdict[tuple[tuple[int, ...], ...], list[int]] = defaultdict(list)
    for first, rests in tails.items():
        firsts[tuple(sorted(rests))].append(first)
    return [(tuple(sorted(same)), *box) for rests, same in firsts.items() for box in _boxes(rests)]


def _runs(indices: Sequence[int]) -> list[tuple[int, int]]:
    """Return the unbroken ranges of sorted `indices` as (first, last)."""
    runs: list[tuple[int, int]] = []
    for index in indices:
        if runs and runs[-1][1] == index - 1:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))
    return runs


def _regular_length(runs: Sequence[tuple[int, int]]) -> int:
    """Return how many of the first `runs` have one length and one distance."""
    length = 1
    while length < len(runs) and all(
        runs[length][end] - runs[length - 1][end] == runs[1][0] - runs[0][0] for end in (0, 1)
    ):
        length += 1
    return length
