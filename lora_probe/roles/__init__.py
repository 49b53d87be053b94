"""Roles: which tower, block and part a weight plays, told from where it stands.

Pure: the rules look at module paths, class names and shapes, never at tensors. The words are in
:mod:`lora_probe.roles.vocabulary`; the rules in `towers`, `blocks` and `parts`, each with its reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.roles.decisions import REASONS, Decision, decide
from lora_probe.roles.place import Place, Role
from lora_probe.roles.vocabulary import BLOCKS, PARTS, TOWERS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "BLOCKS",
    "PARTS",
    "REASONS",
    "TOWERS",
    "Decision",
    "Place",
    "Role",
    "assign_roles",
    "explain_roles",
]


def assign_roles(places: Sequence[Place], *, model_type: str, architecture: str) -> list[Role]:
    """Return the role of each place, in order; all places of one model are given at once."""
    return [
        decision.role for decision in explain_roles(places, model_type=model_type, architecture=architecture)
    ]


def explain_roles(places: Sequence[Place], *, model_type: str, architecture: str) -> list[Decision]:
    """Return the role of each place with the names of the rules that decided it; REASONS explains each."""
    return decide(places, model_type=model_type, architecture=architecture)
