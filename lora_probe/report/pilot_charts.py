"""The drawings of a pilot's page."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from lora_probe.report.axes import Axis, Tick, linear_axis, log_axis
from lora_probe.report.line_charts import Chart, Dot, Key, Line, points, size_label
from lora_probe.report.numbers import exact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from lora_probe.report.pilot_figures import Curve, LossCurves, Pareto, RateCurve, RateCurves

__all__ = ["pareto_chart", "rate_chart", "training_chart", "tuning_chart"]

_LINE = 6.5
"""Percent of a chart's height that one line of text takes."""
_SIDE = 60
"""Percent from the left beyond which a label is written to the left of its dot."""


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
                points=points(zip(curve.steps, curve.losses, strict=True), across, up),
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
    arms = [arm for arm in info.points if arm.trainable_parameters > 0]
    if not arms:
        return None
    across = log_axis([arm.trainable_parameters for arm in arms], label=size_label)
    up = linear_axis([arm.loss for arm in arms], label=_fixed)
    front = [(arm.trainable_parameters, arm.loss) for arm in arms if arm.on_front]
    return Chart(
        aria="test loss against trained parameters",
        x_title="trained parameters",
        y_title=info.unit,
        lines=(Line(color="currentColor", points=points(front, across, up)),) if len(front) > 1 else (),
        dots=tuple(
            Dot(
                x=across(arm.trainable_parameters),
                y=up(arm.loss),
                color=colors[arm.candidate],
                title=f"{arm.candidate}: {arm.loss:.4f}, {exact(arm.trainable_parameters)} parameters",
                label=arm.candidate,
                label_y=label_y,
                on_left=across(arm.trainable_parameters) > _SIDE,
            )
            for arm, label_y in zip(arms, _clear([up(arm.loss) for arm in arms]), strict=True)
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
    across = log_axis(rates, label=_rate, ticks=info.marks)
    up = linear_axis(losses, label=_fixed)
    return Chart(
        aria="tuning loss against learning rate",
        x_title="learning rate",
        y_title=info.unit,
        lines=tuple(
            Line(
                color=colors[curve.candidate],
                points=points(zip(curve.rates, curve.losses, strict=True), across, up),
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


def _legend(curves: Iterable[Curve | RateCurve], colors: Mapping[str, str]) -> tuple[Key, ...]:
    """Return the entry of each arm that has a curve, in the order of the plan."""
    drawn = {curve.candidate for curve in curves}
    return tuple(Key(color=color, name=name) for name, color in colors.items() if name in drawn)


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
