"""One rule of a table: what it looks for, the word it says, and why."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lora_probe.roles.tree import Node

__all__ = ["Rule", "Table", "together"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rule:
    """One `if` of a table: at least one of the clues, and all of the conditions.

    Clues are `named`, `classed` and `holding`; a rule without any applies wherever its conditions hold. All
    patterns match from end to end: a name is lower case, a class has lost the words of the enclosing class.
    """

    name: str
    """Stable short name, as an explanation shows it."""
    word: str
    """What the rule answers."""
    reason: str
    """Why the clue proves the word."""
    named: str = ""
    """Clue: pattern of the node's name."""
    classed: str = ""
    """Clue: pattern of the node's class."""
    holding: Sequence[frozenset[str]] = ()
    """Clue: the node's children have all the names of one of these sets."""
    inside: frozenset[str] = frozenset()
    """Condition: the word decided above is one of these; empty allows any."""
    outside: frozenset[str] = frozenset()
    """Condition: the word decided above is none of these."""
    beside: str = ""
    """Condition: pattern of the name of a child of the same parent, other than the node's own."""
    apart: str = ""
    """Condition: no other child of the same parent has a name of this pattern."""
    under: str = ""
    """Condition: pattern of the parent's name, list indices left out."""
    unless_classed: str = ""
    """Condition: the class does not match this pattern."""
    unless_named: str = ""
    """Condition: the name does not match this pattern."""
    where: Callable[[Node], bool] | None = None
    """Condition: any other fact of the node's signature."""

    def applies(self, node: Node, above: str) -> bool:
        """Tell whether the rule speaks about `node`, where `above` was decided for its parent."""
        if (self.inside and above not in self.inside) or above in self.outside:
            return False
        return self._has_clue(node) and self._has_conditions(node)

    def _has_clue(self, node: Node) -> bool:
        if not (self.named or self.classed or self.holding):
            return True
        return (
            bool(self.named and _matches(self.named, node.name))
            or bool(self.classed and _matches(self.classed, node.own_class))
            or any(names <= node.child_names for names in self.holding)
        )

    def _has_conditions(self, node: Node) -> bool:
        return not (
            (self.beside and not self._is_beside(self.beside, node))
            or (self.apart and self._is_beside(self.apart, node))
            or (self.under and not _matches(self.under, node.parent_name))
            or (self.unless_classed and _matches(self.unless_classed, node.own_class))
            or (self.unless_named and _matches(self.unless_named, node.name))
            or (self.where is not None and not self.where(node))
        )

    @staticmethod
    def _is_beside(pattern: str, node: Node) -> bool:
        return any(name != node.name and _matches(pattern, name) for name in node.siblings)


class Table:
    """Rules in order: the first that applies decides."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)

    def first(self, node: Node, above: str, seen: dict[object, Rule | None]) -> Rule | None:
        """Return the rule that decides about `node`; answers are kept in `seen`, for one model."""
        key = (node.signature(), above)
        if key not in seen:
            seen[key] = next((rule for rule in self.rules if rule.applies(node, above)), None)
        return seen[key]


def together(*sets: str) -> tuple[frozenset[str], ...]:
    """Return the sets of names, each given as one text with spaces between the names."""
    return tuple(frozenset(names.split()) for names in sets)


@lru_cache(maxsize=65536)
def _matches(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern, text) is not None
