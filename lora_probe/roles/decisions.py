"""From places to roles: grow the tree, walk it through the tables, and keep which rule decided."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_probe.roles.blocks import MODULES, WEIGHTS
from lora_probe.roles.fold import MANY, fold
from lora_probe.roles.modality import EVIDENCE
from lora_probe.roles.parts import Member, Unit
from lora_probe.roles.place import Role
from lora_probe.roles.projections import PROJECTIONS, first_part
from lora_probe.roles.towers import TOWERS, assign_towers
from lora_probe.roles.tree import INDEX, grow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lora_probe.roles.parts import PartRule
    from lora_probe.roles.place import Place
    from lora_probe.roles.rule import Rule
    from lora_probe.roles.tree import Node

__all__ = ["REASONS", "Decision", "decide"]

REASONS: Mapping[str, str] = {
    **{rule.name: rule.reason for table in (TOWERS, MODULES, WEIGHTS) for rule in table.rules},
    **{rule.name: rule.reason for rules in PROJECTIONS.values() for rule in rules},
    **EVIDENCE,
    "own-name": "the block has no standard part for it",
    "no-rule": "no rule speaks about it",
}
"""Why each rule that an explanation names proves its word."""

_TECHNICAL = frozenset({"base_layer", "original_module", "modules_to_save"})
"""Modules that PEFT puts around a weight; they never say what it is for."""
_NAMED_BY_USER = frozenset({"modules_to_save", "lora_a", "lora_b", "lora_embedding_a", "lora_embedding_b"})
"""What PEFT names so has children with the names of adapters."""
_SHELLS = frozenset({"linear", "conv", "convolution", "proj", "projection", "weight"})
"""Names of the only child of a module that does something around one matrix, such as clipping its output."""
_AROUND = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """A role, and the names of the rules that decided each of its words."""

    role: Role
    tower: str
    block: str
    part: str


def decide(places: Sequence[Place], *, model_type: str, architecture: str) -> list[Decision]:
    """Return the decision about each place, in order; linear in their number."""
    alike = fold(places)
    first = [place for position, place in enumerate(places) if alike[position] == position]
    root, leaves = grow(first)
    assign_towers(root, names=f"{model_type} {architecture}")
    _assign_blocks(root)
    decided = {
        id(place): (leaf, part, rule)
        for place, leaf, (part, rule) in zip(first, leaves, _assign_parts(leaves, first), strict=True)
    }
    answers: dict[tuple[int, int | None], Decision] = {}
    decisions = []
    for place, original in zip(places, alike, strict=True):
        key = (original, layer_of(place.path))
        decision = answers.get(key)
        if decision is None:
            leaf, part, rule = decided[id(places[original])]
            role = Role(tower=leaf.tower, block=leaf.block, part=part, layer=key[1])
            decision = Decision(role=role, tower=leaf.tower_rule, block=leaf.block_rule, part=rule)
            answers[key] = decision
        decisions.append(decision)
    return decisions


_NUMBERED = re.compile(r"(?:^|\.)([0-9]{1,9})\.")


def layer_of(path: str) -> int | None:
    """Return the first number in `path` that has something below it, None if there is none.

    This is how PEFT reads `layers_to_transform`, except that PEFT cannot see a list at the root (`h.0.attn`).
    """
    found = _NUMBERED.search(path)
    return int(found[1]) if found else None


def _assign_blocks(root: Node) -> None:
    modules: dict[object, Rule | None] = {}
    weights: dict[object, Rule | None] = {}
    for node in root.walk():
        if node.parent is None:
            continue
        above = node.parent.block
        rule = MODULES.first(node, above, modules)
        if rule is None:
            node.block, node.block_rule = above, node.parent.block_rule
            is_entry = node.name == INDEX and node.weights >= MANY  # such as one of many experts
            node.unit = node.parent.unit if above and not is_entry else node
        else:
            node.block, node.block_rule = rule.word, rule.name
            # A single weight that says what it is belongs together with the others of its layer.
            node.unit = node.parent if node.place is not None else node
        if node.place is not None:
            _settle(node, node.place, weights)


def _settle(leaf: Node, place: Place, seen: dict[object, Rule | None]) -> None:
    if place.is_output_embedding and leaf.kind != "embedding":
        leaf.block, leaf.block_rule = "head", "output-embedding"
        return
    rule = WEIGHTS.first(leaf, leaf.block, seen)
    if rule is not None:
        leaf.block, leaf.block_rule = rule.word, rule.name
        leaf.unit = leaf.parent or leaf
    elif not leaf.block:
        leaf.block, leaf.block_rule = "other", "no-rule"
        leaf.unit = leaf.parent or leaf


def _assign_parts(leaves: Sequence[Node], places: Sequence[Place]) -> list[tuple[str, str]]:
    """Return part and rule of each leaf; units that look alike are decided once."""
    units: dict[tuple[int, str], list[int]] = {}
    for position, leaf in enumerate(leaves):
        units.setdefault((id(leaf.unit), leaf.block), []).append(position)
    answers: list[tuple[str, str]] = [("", "")] * len(leaves)
    seen: dict[object, list[PartRule | None]] = {}
    for (_, block), positions in units.items():
        members = tuple(_member(leaves[position], places[position]) for position in positions)
        rules = seen.get((block, members))
        if rules is None:
            unit = Unit(members)
            rules = seen[block, members] = [first_part(block, member, unit) for member in members]
        for position, rule in zip(positions, rules, strict=True):
            answers[position] = (rule.part, rule.name) if rule else (_own_name(leaves[position]), "own-name")
    return answers


def _member(leaf: Node, place: Place) -> Member:
    node = _without(leaf, _SHELLS)
    above: list[str] = []
    around = node.parent
    while around is not None and len(above) < _AROUND:
        if around.name != INDEX:
            above.append(around.name)
        around = around.parent
    return Member(
        name=above[0] if node.name == INDEX and above else node.name,
        above=tuple(above),
        kind=leaf.kind,
        is_entry=node.name == INDEX,
        in_features=place.in_features,
        out_features=place.out_features,
        is_input=place.is_input_embedding,
        is_output=place.is_output_embedding,
    )


def _own_name(leaf: Node) -> str:
    """Return the name of a weight, or of the list that it is an entry of; at the root, a number is a name."""
    node = _without(leaf, frozenset())
    while node.name == INDEX and node.parent is not None:
        node = node.parent
    return node.label or leaf.label


def _without(node: Node, shells: frozenset[str]) -> Node:
    """Return the node that says what `node` is for, without technical modules and `shells` around it."""
    parent = node.parent
    while (
        parent is not None
        and parent.name
        and (
            node.name in _TECHNICAL
            or parent.name in _NAMED_BY_USER
            or (node.name in shells and len(parent.children) == 1 and parent.name != INDEX)
        )
    ):
        node, parent = parent, parent.parent
    return node
