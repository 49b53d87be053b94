"""Roles: which tower, block and part a weight plays, told from where it stands.

Pure: the rules look at module paths, class names and shapes, never at tensors.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lora_probe.roles.blocks import assign_blocks
from lora_probe.roles.parts import part_of
from lora_probe.roles.place import Place, Role
from lora_probe.roles.towers import assign_towers
from lora_probe.roles.tree import grow

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Place", "Role", "assign_roles"]

_LAYER = re.compile(r"(?:^|\.)(\d+)\.")


def assign_roles(places: Sequence[Place], *, model_type: str, architecture: str) -> list[Role]:
    """Return the role of each place, in order; all places of one model are given at once."""
    if not places:
        return []
    root, leaves = grow(places)
    assign_towers(root, model_type=model_type, architecture=architecture)
    assign_blocks(root)
    return [
        Role(tower=leaf.tower, block=leaf.block, part=part_of(leaf), layer=_layer(place.path))
        for leaf, place in zip(leaves, places, strict=True)
    ]


def _layer(path: str) -> int | None:
    found = _LAYER.search(path)
    return int(found[1]) if found else None
