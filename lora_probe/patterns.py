"""Paths that differ only in their numbers, written as one: ``model.layers.{0…31}.mlp.down_proj``.

A pattern is exact: what it expands to is what was collapsed, no more and no less. How it is written:

- ``{0…31}`` is every index of one unbroken range; ``{0,1}`` and a plain ``7`` are what they say;
- ``{3,7,11…47}`` goes on as it began, by the step between the two entries before the ellipsis;
- ``{0-2,4-6,8-10…44-46}`` is the same with ranges instead of single indices;
- anything less regular lists its ranges: ``{0-4,9,11}``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Pattern", "collapse", "index_text"]

_SHOWN = 3
"""Entries that are written out before an ellipsis."""
_PAIR = 2
_MAX_DIGITS = 9
_MAX_INDICES = 8
"""Numbered segments of one path that may vary; the rest of an absurdly nested name stays literal."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A set of dotted paths: the product of its segments, each a literal or a sorted set of indices."""

    segments: tuple[str | tuple[int, ...], ...]

    def __len__(self) -> int:
        """Return how many paths the pattern stands for."""
        return math.prod(len(segment) for segment in self.segments if not isinstance(segment, str))

    def __iter__(self) -> Iterator[str]:
        """Iterate over the paths, the last index fastest."""
        choices = [[segment] if isinstance(segment, str) else map(str, segment) for segment in self.segments]
        return map(".".join, product(*choices))

    def __str__(self) -> str:
        """Return the pattern as a person reads it."""
        return ".".join(
            segment if isinstance(segment, str) else index_text(segment) for segment in self.segments
        )


def collapse(paths: Iterable[str]) -> list[Pattern]:
    """Return patterns that together expand to exactly `paths` (all different), in the order of first sight.

    Every all-digit segment of a path may vary, so layers x experts become one pattern. Where the indices are
    no product of sets (layer 3 has fewer experts than the rest), the first index is split until they are.
    """
    families: defaultdict[tuple[str | None, ...], list[tuple[int, ...]]] = defaultdict(list)
    for path in paths:
        skeleton: list[str | None] = []
        point: list[int] = []
        for segment in path.split("."):
            if len(point) < _MAX_INDICES and _is_index(segment):
                skeleton.append(None)
                point.append(int(segment))
            else:
                skeleton.append(segment)
        families[tuple(skeleton)].append(tuple(point))
    return [
        Pattern(_filled(skeleton, box)) for skeleton, points in families.items() for box in _boxes(points)
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


def _is_index(segment: str) -> bool:
    """Tell whether `segment` is a number that ``str(int())`` gives back: ``7``, not ``07``."""
    return (
        segment.isascii()
        and segment.isdigit()
        and len(segment) <= _MAX_DIGITS
        and (segment[0] != "0" or segment == "0")
    )


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


def _filled(
    skeleton: Sequence[str | None], box: Sequence[tuple[int, ...]]
) -> tuple[str | tuple[int, ...], ...]:
    values = iter(box)
    return tuple(next(values) if segment is None else segment for segment in skeleton)


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
