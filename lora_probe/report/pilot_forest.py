"""The forest plot of a pilot's page: differences from the best arm, in percent of the place that they get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_probe.report.axes import Tick, linear_axis
from lora_probe.report.pilot_wording import interval, signed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lora_probe.report.pilot_figures import Forest

__all__ = ["ForestChart", "ForestLine", "forest_chart"]

_TICKS = 6
"""Signed numbers are wide, and a phone is narrow."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForestLine:
    """One difference: places in percent from the left."""

    candidate: str
    color: str
    relation: str
    figures: str
    """The difference and its interval as text."""
    at: float
    low: float
    width: float
    family_low: float
    family_width: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ForestChart:
    """Differences from the best arm over one axis, and the band in which they do not matter."""

    best: str
    lines: tuple[ForestLine, ...]
    ticks: tuple[Tick, ...]
    zero: float
    band: float
    band_width: float


def forest_chart(info: Forest, colors: Mapping[str, str]) -> ForestChart:
    """Return the differences with their intervals, for the place right of the arms' names."""
    ends = [value for row in info.rows for value in (row.family_low, row.family_high, row.low, row.high)]
    axis = linear_axis([0.0, -info.margin, info.margin, *ends], label=_signed, ticks=_TICKS)
    return ForestChart(
        best=info.best,
        lines=tuple(
            ForestLine(
                candidate=row.candidate,
                color=colors[row.candidate],
                relation=str(row.relation),
                figures=f"{signed(row.difference)} {interval(row)}",
                at=axis(row.difference),
                low=axis(row.low),
                width=round(axis(row.high) - axis(row.low), 2),
                family_low=axis(row.family_low),
                family_width=round(axis(row.family_high) - axis(row.family_low), 2),
            )
            for row in info.rows
        ),
        ticks=axis.ticks,
        zero=axis(0.0),
        band=axis(-info.margin),
        band_width=round(axis(info.margin) - axis(-info.margin), 2),
    )


def _signed(value: float, decimals: int) -> str:
    return f"{value:+.{decimals}f}" if round(value, decimals) else "0"
