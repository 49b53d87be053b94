"""Roles by layers as a page draws them: each role a strip of as many units as there are layers."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cell", "Strip"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One layer of a role, or neighbouring ones that are equal."""

    x: int
    width: int = 1
    opacity: float
    title: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """One role; where it has no cell, it has nothing in that layer."""

    role: str
    color: str
    cells: tuple[Cell, ...]
    total: int | None = None
    """Elements in all, where they are told."""
