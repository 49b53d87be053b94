"""What a rule may look at, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora_probe.graph import Kind

__all__ = ["Place", "Role"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where one weight stands in its model: everything that a rule may look at."""

    path: str
    """Path of the module that holds the weight; empty for the root."""
    classes: tuple[str, ...]
    """Class names from the root to the module at `path` (one more than the path has segments); empty strings
    where only names and shapes are known (a checkpoint's header)."""
    parameter: str
    """The weight's own name in its module: weight, in_proj_weight, gate_up_proj, …"""
    kind: Kind
    in_features: int
    out_features: int
    experts: int = 1
    is_input_embedding: bool = False
    is_output_embedding: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """What a weight is for."""

    tower: str
    block: str
    part: str
    layer: int | None
