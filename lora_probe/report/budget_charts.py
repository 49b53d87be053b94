"""The drawings of a budget's page, in percent of the place that they get: text stays text at any width."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from math import floor, log2, log10
from typing import TYPE_CHECKING

from lora_probe.patterns import index_text
from lora_probe.report.colors import REST, block_color, set_color
from lora_probe.report.numbers import exact, short

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lora_probe.report.budget_figures import Curve, LayerHeat, RankCurves, RoleHeat

__all__ = ["Cell", "CurveChart", "Dot", "HeatRow", "HeatStrips", "Line", "Tick", "curve_chart", "heat_strips"]

_MOST_TICKS = 9
_PALEST = 0.12
"""Opacity of the smallest amounts that are not nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """A label at a place on an axis: percent from the left, or from the bottom."""

    place: float
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot:
    """One row of the budget on its line."""

    x: float
    y: float
    title: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One target set."""

    targets: str
    color: str
    points: str
    """As SVG reads them, in percent from the top left."""
    dots: tuple[Dot, ...]
    per_rank: str
    """What one more rank adds, as a person reads it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CurveChart:
    """Trained parameters against the rank, on logarithmic axes."""

    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    limit: Tick | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """Neighbouring layers in which one role takes the same."""

    x: int
    width: int
    opacity: float
    title: str


@dataclass(frozen=True, kw_only=True, slots=True)
class HeatRow:
    """One role: its layers, and what it takes in all."""

    role: str
    """Without the tower, where all roles are in one."""
    color: str
    cells: tuple[Cell, ...]
    total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HeatStrips:
    """Roles by layers, each role a strip of as many units as there are layers."""

    targets: str
    rank: int
    layers: tuple[int, ...]
    rows: tuple[HeatRow, ...]
    total: int
    highest: int
    """What the darkest cell stands for."""
    outside: int
    """Elements outside of layers, which are in no cell."""


class _Axis:
    """Percent of an axis for a value, on a logarithmic scale."""

    def __init__(self, low: int, high: int) -> None:
        self._low = log10(low)
        self._span = log10(high) - self._low or 1.0

    def __call__(self, value: int) -> float:
        return round(100 * (log10(value) - self._low) / self._span, 2)


def curve_chart(info: RankCurves) -> CurveChart | None:
    """Return the chart, or None where there is nothing to draw."""
    curves = [curve for curve in info.curves if min(curve.parameters) > 0]
    if not curves:
        return None
    ranks = sorted({rank for curve in curves for rank in curve.ranks})
    sizes = [size for curve in curves for size in curve.parameters] + ([info.limit] if info.limit else [])
    low, high = 10 ** floor(log10(min(sizes))), max(sizes)
    across, up = _Axis(ranks[0], ranks[-1]), _Axis(low, high)
    powers = [rank for rank in ranks if log2(rank / ranks[0]).is_integer()]
    step = -(-len(powers) // _MOST_TICKS)
    return CurveChart(
        lines=tuple(_line(curve, place, across, up) for place, curve in enumerate(curves)),
        x_ticks=tuple(Tick(place=across(rank), label=str(rank)) for rank in powers[::step]),
        y_ticks=tuple(_decades(low, high, up)),
        limit=Tick(place=up(info.limit), label=short(info.limit)) if info.limit else None,
    )


def _line(curve: Curve, place: int, across: _Axis, up: _Axis) -> Line:
    size = dict(zip(curve.ranks, curve.parameters, strict=True))
    added = size[curve.ranks[-1]] - size[curve.ranks[0]]
    per_rank = added // (curve.ranks[-1] - curve.ranks[0]) if len(curve.ranks) > 1 else 0
    return Line(
        targets=curve.targets,
        color=set_color(place),
        points=" ".join(f"{across(rank)},{round(100 - up(size[rank]), 2)}" for rank in curve.ranks),
        dots=tuple(
            Dot(x=across(rank), y=up(size[rank]), title=f"{curve.targets}, r={rank}: {exact(size[rank])}")
            for rank in curve.marked
        ),
        per_rank=f"{short(per_rank)} a rank",
    )


def _decades(low: int, high: int, up: _Axis) -> Iterator[Tick]:
    value = low
    while value <= high:
        yield Tick(place=up(value), label=re.sub(r"\.0+", "", short(value)))
        value *= 10


def heat_strips(info: LayerHeat) -> HeatStrips:
    """Return the strips; neighbouring layers in which a role takes the same are one cell."""
    highest = max((size for role in info.roles for size in role.layers), default=0)
    towers = {role.role.partition(":")[0] for role in info.roles if ":" in role.role}
    tower = f"{next(iter(towers))}:" if len(towers) == 1 else ""
    return HeatStrips(
        targets=info.targets,
        rank=info.rank,
        layers=info.layers,
        rows=tuple(
            HeatRow(
                role=role.role.removeprefix(tower),
                color=_role_color(role.role),
                cells=tuple(_cells(role, info.layers, highest)),
                total=role.total,
            )
            for role in info.roles
        ),
        total=sum(role.total for role in info.roles),
        highest=highest,
        outside=sum(role.total - sum(role.layers) for role in info.roles),
    )


def _cells(role: RoleHeat, layers: Sequence[int], highest: int) -> Iterator[Cell]:
    for size, run in groupby(range(len(layers)), key=lambda place: role.layers[place]):
        places = list(run)
        if size:
            held = index_text([layers[place] for place in places])
            each = " each" if len(places) > 1 else ""
            yield Cell(
                x=places[0],
                width=len(places),
                opacity=round(_PALEST + (1 - _PALEST) * size / highest, 3),
                title=f"{role.role}, layer {held}: {exact(size)}{each}",
            )


def _role_color(role: str) -> str:
    _, found, place = role.partition(":")
    return block_color(place.partition(".")[0]) if found else REST
