"""Charts of lines and dots in percent of the place that they get, so that text stays text at any width."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_probe.report.numbers import short

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lora_probe.report.axes import Axis, Tick

__all__ = ["Chart", "Dot", "Key", "Line", "points", "size_label"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One curve."""

    color: str
    points: str
    """As SVG reads them, in percent from the top left."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot:
    """One value of its own."""

    x: float
    y: float
    color: str
    title: str
    label: str = ""
    label_y: float = 0.0
    """Percent from the bottom: near the dot, and clear of other labels."""
    on_left: bool = False
    """Whether the label stands to the left."""
    mark: str = ""
    """`ring` for a chosen one, `cross` for a failed one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """One entry of a legend."""

    color: str
    name: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """Lines and dots over two axes."""

    aria: str
    x_title: str
    y_title: str
    lines: tuple[Line, ...]
    dots: tuple[Dot, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    rule: Tick | None = None
    """A level across the chart."""
    legend: tuple[Key, ...] = ()


def points(values: Iterable[tuple[float, float]], across: Axis, up: Axis) -> str:
    """Return `values` as the points of a `Line`."""
    return " ".join(f"{across(x)},{round(100 - up(y), 2)}" for x, y in values)


def size_label(size: float) -> str:
    """Return a number of elements for an axis, without zeros behind its point: ``2M``, ``1.5M``."""
    return re.sub(r"\.0+(?=\D)", "", short(round(size)))
