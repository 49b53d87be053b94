"""The module tree, as far as it carries weights: what the rules walk over."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lora_probe.roles.place import Place

__all__ = ["INDEX", "Node", "grow", "is_index"]

INDEX = "#"
"""Name of every node whose own name is a number: the entries of a list are alike."""

_MAX_DIGITS = 9
_CONTAINERS = frozenset({"ModuleList", "ModuleDict", "Sequential", "ParameterList", ""})
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_BARE = frozenset({"expert_parameter", "matrix_parameter", "packed_attention"})
"""Kinds of weights that have a name of their own inside a module; any other is its module's weight."""


class Node:
    """A module, or a bare parameter, with a weight at or below it.

    Built by :func:`grow`; the tables of towers and blocks fill in what is empty here.
    """

    __slots__ = (
        "attends", "block", "block_rule", "child_names", "children", "class_name", "has_layers",
        "is_repeated", "kind", "label", "name", "opener", "own_class", "parent", "parent_name",
        "place", "senses", "tower", "tower_rule", "unit", "weights",
    )  # fmt: skip

    def __init__(self, label: str, class_name: str, parent: Node | None) -> None:
        self.label = label
        """Own name, as the model spells it."""
        self.name = INDEX if is_index(label) else label.lower()
        """Own name in lower case; INDEX for a number."""
        self.class_name = class_name
        self.own_class = class_name
        """Class name without the words that it repeats from the enclosing class, so without the model's name:
        BertSelfOutput in a BertAttention is a SelfOutput."""
        self.opener: str = class_name
        """Nearest class name at or above that is no container."""
        self.parent = parent
        in_list = parent is not None and parent.name == INDEX
        self.parent_name: str = "" if parent is None else parent.parent_name if in_list else parent.name
        """Name of the nearest ancestor that is no list index; empty for the root."""
        self.is_repeated: bool = parent is not None and (in_list or parent.is_repeated)
        """Whether a numbered list is above it: a part of a layer, not of the model as a whole."""
        self.children: dict[str, Node] = {}
        self.child_names: frozenset[str] = frozenset()
        self.place: Place | None = None
        self.kind = ""
        """Kind of the node's own weight; empty for a module without one."""
        self.has_layers = False
        """Whether it holds a list whose entries are modules with parts of their own."""
        self.attends = False
        """Whether something below it is named after attention."""
        self.weights = 0
        """How many weights it holds, its own included."""
        self.senses: frozenset[str] = frozenset()
        """What its weights read: `tokens`, if there is a table of them."""
        self.tower = self.tower_rule = self.block = self.block_rule = ""
        self.unit = self
        """The node whose weights of this block belong together."""

    @property
    def siblings(self) -> frozenset[str]:
        """Names of the parent's children, its own among them."""
        return self.parent.child_names if self.parent is not None else frozenset()

    @property
    def parent_class(self) -> str:
        """Own class of the parent; empty for the root."""
        return self.parent.own_class if self.parent is not None else ""

    def signature(self) -> tuple[object, ...]:
        """Return all that a rule may look at: equal signatures get equal answers."""
        return (
            self.name, self.own_class, self.class_name, self.parent_name, self.parent_class, self.siblings,
            self.child_names, self.kind, self.senses, self.tower, self.attends, self.has_layers,
            self.is_repeated,
        )  # fmt: skip

    def walk(self) -> Iterator[Node]:
        """Iterate over this node and everything below it, parents first, in the model's order."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children.values()))


def is_index(segment: str) -> bool:
    """Tell whether a segment of a path is a position in a list; an absurdly long number is a name."""
    return len(segment) <= _MAX_DIGITS and segment.isascii() and segment.isdecimal()


def grow(places: Sequence[Place]) -> tuple[Node, list[Node]]:
    """Return the root, and the leaf of each place in order; linear in the number of places."""
    root = Node("", places[0].classes[0] if places else "", None)
    leaves = []
    for place in places:
        node = root
        if place.path:
            for segment, class_name in zip(place.path.split("."), place.classes[1:], strict=True):
                node = _child(node, segment, class_name)
        if not place.path or (str(place.kind) in _BARE and place.parameter != "weight"):
            node = _child(node, place.parameter, "")
        node.place, node.kind = place, str(place.kind)
        leaves.append(node)
    seen: dict[frozenset[str], frozenset[str]] = {}
    for node in reversed(list(root.walk())):
        node.weights = (node.place is not None) + sum(child.weights for child in node.children.values())
        names = frozenset(child.name for child in node.children.values())
        senses = _sense(node).union(*(child.senses for child in node.children.values()))
        # One object for equal sets, so that comparing the signatures of repeated layers stays cheap.
        node.child_names, node.senses = seen.setdefault(names, names), seen.setdefault(senses, senses)
        node.attends = any(child.attends or "att" in child.name for child in node.children.values())
        node.has_layers = any(
            child.has_layers or (child.name == INDEX and child.child_names - {INDEX})
            for child in node.children.values()
        )
    return root, leaves


def _child(node: Node, segment: str, class_name: str) -> Node:
    child = node.children.get(segment)
    if child is None:
        child = node.children[segment] = Node(segment, class_name, node)
        if class_name in _CONTAINERS:
            child.opener = node.opener
        else:
            child.own_class = _without_common_words(class_name, node.opener)
    return child


@lru_cache(maxsize=16384)
def _without_common_words(class_name: str, enclosing: str) -> str:
    """Return `class_name` without the leading CamelCase words of `enclosing`; its last word always stays."""
    own, other = _WORD.findall(class_name), _WORD.findall(enclosing)
    shared = 0
    while shared < len(own) - 1 and shared < len(other) and own[shared] == other[shared]:
        shared += 1
    return "".join(own[shared:])


def _sense(node: Node) -> frozenset[str]:
    """Return `tokens` for a table of them: the model's own input embedding, or one named for them."""
    place = node.place
    if place is None or node.kind != "embedding" or "class" in node.name:
        return frozenset()
    named = "type" not in node.name and any(word in node.name for word in ("token", "word", "wte", "shared"))
    plain = node.name in {"emb", "embedding", "embeddings"}
    return frozenset({"tokens"}) if place.is_input_embedding or named or plain else frozenset()
