"""The module tree, as far as it carries weights: what the rules walk over."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lora_probe.roles.lexicon import part_word

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lora_probe.roles.place import Place

__all__ = ["Node", "grow"]

_INDEX = re.compile(r"\d+")
WRAPPERS = frozenset(
    {"linear", "base_layer", "original_module", "parametrizations", "weight", "original0", "original1"}
)
"""Names of modules that only hold their parent's weight."""


class Node:
    """A module, or a bare parameter, with a weight at or below it."""

    __slots__ = (
        "block", "child_names", "child_parts", "children", "class_name", "kind", "name", "parent", "place",
        "rules", "siblings", "tower", "unit",
    )  # fmt: skip

    def __init__(self, name: str, class_name: str, parent: Node | None) -> None:
        self.name = name
        self.class_name = class_name
        self.parent = parent
        self.children: dict[str, Node] = {}
        self.place: Place | None = None
        self.kind = ""
        self.child_names: tuple[str, ...] = ()
        self.child_parts: frozenset[str] = frozenset()
        self.siblings: tuple[str, ...] = ()
        self.tower = self.block = ""
        self.unit: Node = self
        self.rules: dict[str, str] = {}

    @property
    def parent_name(self) -> str:
        """Name of the nearest parent that is not a list index."""
        node = self.parent
        while node is not None and node.name == "#":
            node = node.parent
        return "" if node is None else node.name

    def walk(self) -> Iterator[Node]:
        """Iterate over this node and everything below it, parents first."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children.values()))


def grow(places: Sequence[Place]) -> tuple[Node, list[Node]]:
    """Return the root and the leaf of each place, in order."""
    root = Node("", places[0].classes[0] if places else "", None)
    leaves = []
    for place in places:
        node = root
        for segment, class_name in zip(
            place.path.split(".") if place.path else (), place.classes[1:], strict=True
        ):
            node = _child(node, segment, class_name)
        if place.parameter != "weight":
            node = _child(node, place.parameter, "")
        node.place = place
        node.kind = str(place.kind)
        leaves.append(node)
    for node in root.walk():
        names = tuple(child.name for child in node.children.values())
        node.child_names = tuple(dict.fromkeys(names))
        node.child_parts = frozenset(part_word(name) for name in node.child_names)
        for child in node.children.values():
            child.siblings = node.child_names
    return root, leaves


def _child(node: Node, segment: str, class_name: str) -> Node:
    child = node.children.get(segment)
    if child is None:
        name = "#" if _INDEX.fullmatch(segment) else segment.lower()
        child = node.children[segment] = Node(name, class_name, node)
    return child
