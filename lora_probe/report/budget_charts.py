"""The drawings of a budget's page."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from math import floor, log2, log10
from typing import TYPE_CHECKING

from lora_probe.patterns import index_text
from lora_probe.report.axes import Axis, Tick, log_axis
from lora_probe.report.colors import REST, block_color, set_color
from lora_probe.report.line_charts import Chart, Dot, Key, Line, points, size_label
from lora_probe.report.numbers import exact, short
from lora_probe.report.strips import Cell, Strip

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lora_probe.report.budget_figures import Curve, LayerHeat, RankCurves, RoleHeat

__all__ = ["HeatStrips", "curve_chart", "heat_strips"]

_MOST_TICKS = 9
_PALEST = 0.12
"""Opacity of the smallest amounts that are not nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeatStrips:
    """What one set at one rank takes, role by role and layer by layer."""

    targets: str
    rank: int
    layers: tuple[int, ...]
    rows: tuple[Strip, ...]
    """Roles are named without the tower, where all are in one."""
    total: int
    highest: int
    """What the darkest cell stands for."""
    outside: int
    """Elements outside of layers, which are in no cell."""


def curve_chart(info: RankCurves) -> Chart | None:
    """Return the chart of trained parameters against the rank, or None where there is nothing to draw."""
    curves = [curve for curve in info.curves if min(curve.parameters) > 0]
    if not curves:
        return None
    ranks = sorted({rank for curve in curves for rank in curve.ranks})
    sizes = [size for curve in curves for size in curve.parameters] + ([info.limit] if info.limit else [])
    low, high = 10 ** floor(log10(min(sizes))), max(sizes)
    powers = [rank for rank in ranks if log2(rank / ranks[0]).is_integer()]
    across = log_axis(ranks, label=str, ticks=powers[:: -(-len(powers) // _MOST_TICKS)], margin=0)
    up = log_axis([low, high], label=size_label, ticks=_decades(low, high), margin=0)
    return Chart(
        aria="trained parameters against the rank, a line for each target set",
        x_title="rank",
        y_title="trained parameters",
        lines=tuple(
            Line(
                color=set_color(place),
                points=points(zip(curve.ranks, curve.parameters, strict=True), across, up),
            )
            for place, curve in enumerate(curves)
        ),
        dots=tuple(
            dot for place, curve in enumerate(curves) for dot in _dots(curve, set_color(place), across, up)
        ),
        x_ticks=across.ticks,
        y_ticks=up.ticks,
        rule=Tick(place=up(info.limit), label=f"limit {short(info.limit)}") if info.limit else None,
        legend=tuple(
            Key(color=set_color(place), name=curve.targets, detail=_per_rank(curve))
            for place, curve in enumerate(curves)
        ),
    )


def _dots(curve: Curve, color: str, across: Axis, up: Axis) -> Iterator[Dot]:
    """Yield the rows of the budget on the curve of their set."""
    size = dict(zip(curve.ranks, curve.parameters, strict=True))
    for rank in curve.marked:
        title = f"{curve.targets}, r={rank}: {exact(size[rank])}"
        yield Dot(x=across(rank), y=up(size[rank]), color=color, title=title)


def _per_rank(curve: Curve) -> str:
    """Return what one more rank adds."""
    ranks = curve.ranks[-1] - curve.ranks[0]
    added = (curve.parameters[-1] - curve.parameters[0]) // ranks if ranks else 0
    return f"{short(added)} a rank"


def _decades(low: int, high: int) -> Iterator[int]:
    while low <= high:
        yield low
        low *= 10


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
            Strip(
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
