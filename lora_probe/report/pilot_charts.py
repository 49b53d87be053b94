"""The drawings of a pilot's page, in percent of the place that they get: text stays text at any width."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from lora_probe.report.numbers import exact, short
from lora_probe.report.pilot_axes import Axis, Tick, linear_axis, log_axis

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from lora_probe.report.pilot_figures import Curve, LossCurves, Pareto, RateCurve, RateCurves

__all__ = [
    "Chart",
    "Dot",
    "Line",
    "pareto_chart",
    "rate_chart",
    "training_chart",
    "tuning_chart",
]

_LINE = 6.5
"""Percent of a chart's height that one line of text takes."""
_SIDE = 60
"""Percent from the left beyond which a label is written to the left of its dot."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One curve."""

    color: str
    points: str
    """As SVG reads them, in percent from the top left."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot:
    """One measured value."""

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
    legend: tuple[tuple[str, str], ...] = ()
    """Colour and name."""


def tuning_chart(info: LossCurves, colors: Mapping[str, str]) -> Chart | None:
    """Return the losses on the tuning part; a ring marks where an arm was taken out."""
    rule = [] if info.base is None else [info.base]
    return _loss_chart(
        info.tuning,
        colors,
        aria="held-out loss while training",
        unit=info.unit,
        rings=info.dropped,
        rule=rule,
    )


def training_chart(info: LossCurves, colors: Mapping[str, str]) -> Chart | None:
    """Return the losses of the steps themselves."""
    return _loss_chart(info.training, colors, aria="training loss", unit=info.unit, rings={}, rule=[])


def _loss_chart(
    curves: Sequence[Curve],
    colors: Mapping[str, str],
    *,
    aria: str,
    unit: str,
    rings: Mapping[str, int],
    rule: Sequence[float],
) -> Chart | None:
    if not curves:
        return None
    across = linear_axis([step for curve in curves for step in curve.steps], label=_whole)
    up = linear_axis([*rule, *(loss for curve in curves for loss in curve.losses)], label=_fixed)
    return Chart(
        aria=aria,
        x_title="step",
        y_title=unit,
        lines=tuple(
            Line(
                color=colors[curve.candidate],
                points=_points(zip(curve.steps, curve.losses, strict=True), across, up),
            )
            for curve in curves
        ),
        dots=tuple(_ends(curves, colors, rings, across, up)),
        x_ticks=across.ticks,
        y_ticks=up.ticks,
        rule=Tick(place=up(rule[0]), label="base") if rule else None,
        legend=_legend(curves, colors),
    )


def _ends(
    curves: Sequence[Curve], colors: Mapping[str, str], rings: Mapping[str, int], across: Axis, up: Axis
) -> Iterator[Dot]:
    """Yield where each curve ends."""
    for curve in curves:
        name, step, loss = curve.candidate, curve.steps[-1], curve.losses[-1]
        seed = "" if curve.seed is None else f", seed {curve.seed}"
        out = ", dropped" if name in rings else ""
        yield Dot(
            x=across(step),
            y=up(loss),
            color=colors[name],
            title=f"{name}{seed}: {loss:.4f} after step {step}{out}",
            mark="ring" if out else "",
        )


def pareto_chart(info: Pareto, colors: Mapping[str, str]) -> Chart | None:
    """Return loss against parameters; the line joins the arms that nothing cheaper beats."""
    points = [point for point in info.points if point.trainable_parameters > 0]
    if not points:
        return None
    across = log_axis([point.trainable_parameters for point in points], label=_size)
    up = linear_axis([point.loss for point in points], label=_fixed)
    front = [(point.trainable_parameters, point.loss) for point in points if point.on_front]
    return Chart(
        aria="test loss against trained parameters",
        x_title="trained parameters",
        y_title=info.unit,
        lines=(Line(color="currentColor", points=_points(front, across, up)),) if len(front) > 1 else (),
        dots=tuple(
            Dot(
                x=across(point.trainable_parameters),
                y=up(point.loss),
                color=colors[point.candidate],
                title=f"{point.candidate}: {point.loss:.4f}, {exact(point.trainable_parameters)} parameters",
                label=point.candidate,
                label_y=label_y,
                on_left=across(point.trainable_parameters) > _SIDE,
            )
            for point, label_y in zip(points, _clear([up(point.loss) for point in points]), strict=True)
        ),
        x_ticks=across.ticks,
        y_ticks=up.ticks,
    )


def rate_chart(info: RateCurves, colors: Mapping[str, str]) -> Chart | None:
    """Return loss against learning rate: a ring marks the chosen one, a cross at the top a failed one."""
    rates = [rate for curve in info.curves for rate in (*curve.rates, *curve.failed)]
    losses = [loss for curve in info.curves for loss in curve.losses]
    if not losses:
        return None
    across = log_axis(rates, label=_rate, ticks=_thinned(rates))
    up = linear_axis(losses, label=_fixed)
    return Chart(
        aria="tuning loss against learning rate",
        x_title="learning rate",
        y_title=info.unit,
        lines=tuple(
            Line(
                color=colors[curve.candidate],
                points=_points(zip(curve.rates, curve.losses, strict=True), across, up),
            )
            for curve in info.curves
        ),
        dots=tuple(dot for curve in info.curves for dot in _rate_dots(curve, colors, across, up)),
        x_ticks=across.ticks,
        y_ticks=up.ticks,
        legend=_legend(info.curves, colors),
    )


def _rate_dots(curve: RateCurve, colors: Mapping[str, str], across: Axis, up: Axis) -> Iterator[Dot]:
    name, color = curve.candidate, colors[curve.candidate]
    for rate, loss in zip(curve.rates, curve.losses, strict=True):
        chosen = rate == curve.chosen
        title = f"{name} at {_rate(rate)}: {loss:.4f}{', chosen' if chosen else ''}"
        yield Dot(x=across(rate), y=up(loss), color=color, title=title, mark="ring" if chosen else "")
    for rate in curve.failed:
        yield Dot(
            x=across(rate), y=100.0, color=color, title=f"{name} at {_rate(rate)}: failed", mark="cross"
        )


def _thinned(rates: Sequence[float]) -> list[float]:
    """Return the learning rates to write on the axis: those that were tried, as far as there is room."""
    tried = sorted({float(f"{rate:.3g}") for rate in rates})
    return tried[:: -(-len(tried) // 7)]


def _legend(curves: Iterable[Curve | RateCurve], colors: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return colour and name of each arm that has a curve, in the order of the plan."""
    drawn = {curve.candidate for curve in curves}
    return tuple((color, name) for name, color in colors.items() if name in drawn)


def _points(values: Iterable[tuple[float, float]], across: Axis, up: Axis) -> str:
    return " ".join(f"{across(x)},{round(100 - up(y), 2)}" for x, y in values)


def _clear(places: Sequence[float]) -> list[float]:
    """Return `places` of labels, percent from the bottom, moved up and then down until none overlap."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = list(places)
    for below, above in pairwise(order):
        moved[above] = max(moved[above], moved[below] + _LINE)
    ceiling = 100.0
    for index in reversed(order):
        moved[index] = min(moved[index], ceiling)
        ceiling = moved[index] - _LINE
    return [round(place, 2) for place in moved]


def _fixed(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}"


def _whole(value: float, decimals: int) -> str:
    return "" if decimals or value < 0 else f"{value:.0f}"


def _rate(value: float) -> str:
    return f"{value:.3g}".replace("e-0", "e-")


def _size(value: float) -> str:
    return re.sub(r"\.0+(?=\D)", "", short(round(value)))
