"""Scales of charts: from values to percent of an axis, and the round values to write on it."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log10
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Axis", "Tick", "linear_axis", "log_axis"]

_TICKS = 8
"""The most values that are written on an axis, about."""
_MARGIN = 0.05
"""Part of the span that is left free at each end, where nothing else is said."""
_ROUND = (1, 2, 5, 10)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """A label at a place on an axis: percent from the left, or from the bottom."""

    place: float
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """Percent of an axis for a value, from `low` to `high`; both are exponents of 10 where it is `log`."""

    low: float
    high: float
    log: bool
    ticks: tuple[Tick, ...]

    def __call__(self, value: float) -> float:
        """Return the place of `value` in percent; what lies outside is put on the edge."""
        scaled = log10(value) if self.log else value
        return round(100 * min(1.0, max(0.0, (scaled - self.low) / (self.high - self.low))), 2)


def linear_axis(values: Iterable[float], *, label: Callable[[float, int], str], ticks: int = _TICKS) -> Axis:
    """Return an axis that holds all `values`, with up to about so many ticks.

    `label` writes a value with so many decimals.
    """
    found = list(values)
    low, high = _spread(min(found), max(found))
    step = _round_step((high - low) / ticks)
    decimals = max(0, -floor(log10(step)))
    places = range(ceil(low / step), floor(high / step) + 1)
    axis = Axis(low=low, high=high, log=False, ticks=())
    return Axis(
        low=low,
        high=high,
        log=False,
        ticks=tuple(
            Tick(place=axis(each * step), label=label(each * step + 0.0, decimals)) for each in places
        ),
    )


def log_axis(
    values: Iterable[float],
    *,
    label: Callable[[float], str],
    ticks: Iterable[float] = (),
    margin: float = _MARGIN,
) -> Axis:
    """Return a logarithmic axis that holds all `values`, all above 0; without `ticks`, round ones."""
    found = list(values)
    low, high = _spread(log10(min(found)), log10(max(found)), least=0.3, margin=margin)
    axis = Axis(low=low, high=high, log=True, ticks=())
    marks = sorted(set(ticks)) or _round_values(low, high)
    return Axis(
        low=low, high=high, log=True, ticks=tuple(Tick(place=axis(mark), label=label(mark)) for mark in marks)
    )


def _round_values(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten from 10**low to 10**high, fewer in a wide range."""
    factors = {1: (1, 1.5, 2, 3, 4, 5, 7), 2: (1, 2, 5), 4: (1, 3)}
    chosen = next((marks for decades, marks in factors.items() if high - low < decades), (1,))
    values = [mark * 10.0**power for power in range(floor(low), ceil(high) + 1) for mark in chosen]
    return [value for value in values if low <= log10(value) <= high]


def _spread(low: float, high: float, *, least: float = 0.0, margin: float = _MARGIN) -> tuple[float, float]:
    """Return an interval around `low` and `high` with some room at its ends, and never empty."""
    span = max(high - low, least) or abs(high) * 0.1 or 1.0
    middle = (low + high) / 2
    return middle - span * (0.5 + margin), middle + span * (0.5 + margin)


def _round_step(step: float) -> float:
    power = 10.0 ** floor(log10(step))
    return next(each for each in _ROUND if each * power >= step * (1 - 1e-9)) * power
