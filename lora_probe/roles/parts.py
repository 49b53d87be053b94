"""Which projection of its block a weight is.

Parts are decided for a whole unit (one attention, one feed-forward layer) at once, so that a rule can compare
its weights: `w1` is a gate where there is a `w3` beside it, and up where there is none.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Law = Callable[["Member", "Unit"], bool]

__all__ = ["Member", "PartRule", "Unit", "has", "is_doubled", "is_in_chain", "is_kind", "lacks", "spelled"]

_MATRICES = frozenset({"linear", "conv1d", "conv"})


@dataclass(frozen=True, slots=True)
class Member:
    """One weight of a unit, the shells around it taken off."""

    name: str
    """Name in lower case; that of the list for an entry of a list."""
    above: tuple[str, ...]
    """Names of the modules around it, the nearest first, list indices left out."""
    kind: str
    in_features: int
    out_features: int
    is_entry: bool = False
    """Whether it is an entry of a list itself, such as a step of a Sequential."""
    is_input: bool = False
    """Whether it is the model's own input embedding."""
    is_output: bool = False
    """Whether it is the model's own output embedding."""


class Unit:
    """The weights of one block that belong together; what the laws look at is gathered once."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = members
        self.names = frozenset(member.name for member in members)
        self.kinds = Counter(member.kind for member in members)
        chain = [member for member in members if member.kind in _MATRICES]
        linked = all(b.in_features in {a.out_features, a.out_features // 2} for a, b in pairwise(chain))
        self.chain = chain if linked and len(chain) > 1 else []
        """The unit's matrices if each reads what the one before wrote, or half of it; else empty."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PartRule:
    """One `if` of a table of parts: whatever is given must hold; the first rule that does decides."""

    name: str
    part: str
    reason: str
    named: str = ""
    """Pattern of the weight's name, from end to end."""
    under: str = ""
    """Pattern of the name of one of the modules around it."""
    where: Law | None = None
    """Law over the names, kinds and shapes of the whole unit."""

    def applies(self, member: Member, unit: Unit) -> bool:
        """Tell whether the rule speaks about `member`, one of the weights of `unit`."""
        return (
            (not self.named or _matches(self.named, member.name))
            and (not self.under or any(_matches(self.under, name) for name in member.above))
            and (self.where is None or self.where(member, unit))
        )


def spelled(part: str, spellings: str, *, under: str = "") -> PartRule:
    """Return the rule for the usual spellings (patterns, separated by spaces) of one part."""
    return PartRule(
        name=f"{part}-by-name",
        part=part,
        reason="the usual spelling",
        named="|".join(spellings.split()),
        under=under,
    )


def has(*names: str) -> Law:
    """Return the law that a weight of the unit has one of `names`."""
    return lambda _, unit: bool(unit.names & {*names})


def lacks(*names: str) -> Law:
    """Return the law that no weight of the unit has one of `names`."""
    return lambda _, unit: not unit.names & {*names}


def is_kind(*kinds: str) -> Law:
    """Return the law that the weight is of one of `kinds`."""
    return lambda member, _: member.kind in kinds


def is_doubled(member: Member, unit: Unit) -> bool:
    """Tell whether the only other matrix reads half of what `member` writes: the other half gates it."""
    if unit.kinds[member.kind] != len(("gate_up", "down")):
        return False
    (other,) = (each for each in unit.members if each is not member and each.kind == member.kind)
    return member.out_features == 2 * other.in_features


def is_in_chain(start: int | None, stop: int | None, *, entries: bool) -> Law:
    """Return the law that the weight is in the slice [start:stop] of matrices that feed one another.

    With `entries`, only for entries of a list, whose own name says nothing.
    """
    return lambda member, unit: (
        (member.is_entry or not entries) and any(member is other for other in unit.chain[start:stop])
    )


@lru_cache(maxsize=65536)
def _matches(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern, text) is not None
