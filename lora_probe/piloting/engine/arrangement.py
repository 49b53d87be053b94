"""Which place in the stack each trial takes, so that trials that adapt the same module stand side by side."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["arranged", "span"]

_EXHAUSTIVE = 6
"""Groups up to which every order is tried: 720 of them."""


def arranged(targets: Sequence[frozenset[str]]) -> tuple[int, ...]:
    """Return the order of trials, as indices into `targets` (the modules that each adapts).

    A module works on one contiguous slice of the stack, from the first trial that adapts it to the last;
    trials between that do not adapt it are carried along with zeros. The order keeps these slices short:
    trials with equal targets stay together, and their groups are placed where the slices add up to least.
    """
    members: dict[frozenset[str], list[int]] = {}
    for index, paths in enumerate(targets):
        members.setdefault(paths, []).append(index)
    weights: dict[frozenset[int], int] = {}
    groups = list(members)
    every: frozenset[str] = frozenset().union(*groups)
    for path in every:
        adapting = frozenset(place for place, group in enumerate(groups) if path in group)
        weights[adapting] = weights.get(adapting, 0) + 1
    sizes = [len(members[group]) for group in groups]

    def carried(order: Sequence[int]) -> int:
        return sum(_length(order, adapting, sizes) * weight for adapting, weight in weights.items())

    if len(groups) <= _EXHAUSTIVE:
        best: tuple[int, ...] = min(permutations(range(len(groups))), key=carried)
    else:
        best = tuple(range(len(groups)))
        for group in (*range(len(groups)), *range(len(groups))):  # the second time round, each may move
            rest = tuple(each for each in best if each != group)
            best = min(((*rest[:at], group, *rest[at:]) for at in range(len(rest) + 1)), key=carried)
    return tuple(index for group in best for index in members[groups[group]])


def span(places: Mapping[int, object] | Sequence[int]) -> tuple[int, int]:
    """Return the slice (start, stop) that covers all places."""
    return min(places), max(places) + 1


def _length(order: Sequence[int], adapting: frozenset[int], sizes: Sequence[int]) -> int:
    """Return how many trials lie between the first and the last group of `adapting`, both included."""
    at = [place for place, group in enumerate(order) if group in adapting]
    return sum(sizes[group] for group in order[at[0] : at[-1] + 1]) if at else 0
