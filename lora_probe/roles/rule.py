"""One rule: what it looks for, the word it says, and why."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lora_probe.roles.tree import Node

__all__ = ["Rule", "first_match"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rule:
    """An `if` of a rule table: any one of the clues, all of the conditions.

    The clues are `named`, `classed`, `holding` and `any_of`; a rule without a clue always applies.
    """

    name: str
    """Stable short name, as ``explain`` shows it."""
    word: str
    """What the rule answers."""
    reason: str
    """Why the clue proves the word."""
    named: str = ""
    """Clue: the node's lower-case name matches this pattern from end to end."""
    classed: str = ""
    """Clue: the node's class name contains this pattern."""
    holding: Sequence[frozenset[str]] = ()
    """Clue: the node's children play all the parts of one of these sets."""
    inside: frozenset[str] = frozenset()
    """Condition: the word decided for the parent is one of these; empty allows any."""
    outside: frozenset[str] = frozenset()
    """Condition: the word decided for the parent is none of these."""
    beside: str = ""
    """Condition: a sibling's name matches this pattern from end to end."""
    apart: str = ""
    """Condition: no sibling's name matches this pattern."""
    parent: str = ""
    """Condition: the parent's name matches this pattern from end to end."""
    with_children: str = ""
    """Condition: a child's name matches this pattern from end to end."""
    not_classed: str = ""
    """Condition: the class name does not contain this pattern."""
    kinds: frozenset[str] = field(default=frozenset())
    """Condition: the node's own weight is of one of these kinds."""

    def applies(self, node: Node, above: str) -> bool:
        """Tell whether the rule speaks about `node`, whose parent was given the word `above`."""
        if (self.inside and above not in self.inside) or above in self.outside:
            return False
        return self._has_clue(node) and self._has_conditions(node)

    def _has_clue(self, node: Node) -> bool:
        if not (self.named or self.classed or self.holding):
            return True
        return (
            bool(self.named and _whole(self.named, node.name))
            or bool(self.classed and _within(self.classed, node.class_name))
            or any(parts <= node.child_parts for parts in self.holding)
        )

    def _has_conditions(self, node: Node) -> bool:
        return (
            (not self.beside or any(_whole(self.beside, name) for name in node.siblings))
            and not (self.apart and any(_whole(self.apart, name) for name in node.siblings))
            and (not self.parent or _whole(self.parent, node.parent_name))
            and (not self.with_children or any(_whole(self.with_children, name) for name in node.child_names))
            and not (self.not_classed and _within(self.not_classed, node.class_name))
            and (not self.kinds or node.kind in self.kinds)
        )


def first_match(rules: Sequence[Rule], node: Node, above: str) -> Rule | None:
    """Return the first of `rules` that applies."""
    return next((rule for rule in rules if rule.applies(node, above)), None)


@lru_cache(maxsize=65536)
def _whole(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern, text) is not None


@lru_cache(maxsize=65536)
def _within(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None
