"""A target set, resolved and spelled for PEFT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora_probe.peft_rules import Inventory

__all__ = ["Choice", "choose", "presets"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One target set: as it was asked for, and as PEFT is told."""

    text: str
    target_modules: tuple[str, ...] | str | None
    target_parameters: tuple[str, ...] = ()


def choose(inventory: Inventory, text: str) -> Choice:
    """PROVISIONAL until lora_probe.targets is there."""
    if text == "all-linear":
        return Choice(text=text, target_modules=text)
    return Choice(text=text, target_modules=tuple(text.split(",")))


def presets(inventory: Inventory) -> list[str]:
    """PROVISIONAL."""
    return ["q_proj,v_proj", "all-linear"]
