"""Plots of a pilot with matplotlib: drawn onto the axes that are given, which are returned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.report.numbers import short
from lora_probe.report.pilot_figures import (
    Forest,
    LossCurves,
    Pareto,
    RateCurves,
    arm_colors,
    forest,
    learning_rate_curves,
    loss_curves,
    pareto,
)
from lora_probe.report.wording import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

__all__ = [
    "Forest",
    "LossCurves",
    "Pareto",
    "RateCurves",
    "arm_colors",
    "draw_forest",
    "draw_learning_rates",
    "draw_loss_curves",
    "draw_pareto",
    "forest",
    "learning_rate_curves",
    "loss_curves",
    "pareto",
]

_GREY, _BAND = "#888888", "#228833"


def draw_forest(info: Forest, ax: Axes, *, colors: Mapping[str, str]) -> Axes:
    """Draw one line an arm: thick its own interval, thin the one for all comparisons; the band is +-delta."""
    ax.axvspan(-info.margin, info.margin, color=_BAND, alpha=0.15, linewidth=0)
    ax.axvline(0, color=_GREY, linewidth=1)
    for place, row in enumerate(info.rows):
        color = colors[row.candidate]
        ax.hlines(place, row.family_low, row.family_high, color=color, linewidth=1.5)
        ax.hlines(place, row.low, row.high, color=color, linewidth=5)
        ax.plot([row.difference], [place], color=color, marker="o", markeredgecolor="white", markersize=9)
    ax.set_yticks(range(len(info.rows)), [f"{shown(row.candidate)}: {row.relation}" for row in info.rows])
    ax.set_ylim(len(info.rows) - 0.5, -0.5)
    ax.set_xlabel(f"{info.unit} worse than {shown(info.best)}")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return ax


def draw_loss_curves(info: LossCurves, ax: Axes, *, colors: Mapping[str, str]) -> Axes:
    """Draw the losses on the tuning part over steps, a line for each arm and seed."""
    named: set[str] = set()
    for curve in info.tuning:
        name = curve.candidate
        out = name in info.dropped
        ax.plot(
            curve.steps, curve.losses, color=colors[name], marker="o", markersize=3,
            markevery=[-1], linewidth=1.3, linestyle="--" if out else "-",
            label=None if name in named else f"{shown(name)}{' (dropped)' if out else ''}",
        )  # fmt: skip
        named.add(name)
    if info.base is not None:
        ax.axhline(info.base, color=_GREY, linestyle=":", linewidth=1, label="base")
    ax.set_xlabel("step")
    return _finish(ax, unit=info.unit)


def draw_pareto(info: Pareto, ax: Axes, *, colors: Mapping[str, str]) -> Axes:
    """Draw the test loss against the trained parameters, and a line through what nothing cheaper beats."""
    from matplotlib.ticker import LogLocator, NullLocator

    points = [point for point in info.points if point.trainable_parameters > 0]
    front = [point for point in points if point.on_front]
    ax.plot(
        [point.trainable_parameters for point in front], [point.loss for point in front],
        color=_GREY, linewidth=1, zorder=1,
    )  # fmt: skip
    for point in points:
        ax.plot(
            [point.trainable_parameters], [point.loss], color=colors[point.candidate], marker="o",
            linestyle="", label=shown(point.candidate),
        )  # fmt: skip
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(lambda size, _position: short(round(size)))
    ax.set_xlabel("trained parameters")
    return _finish(ax, unit=info.unit)


def draw_learning_rates(info: RateCurves, ax: Axes, *, colors: Mapping[str, str]) -> Axes:
    """Draw the loss on the tuning part against the learning rate; the chosen ones are ringed."""
    for curve in info.curves:
        color = colors[curve.candidate]
        ax.plot(
            curve.rates, curve.losses, color=color, marker="o", markersize=4, linewidth=1.3,
            label=shown(curve.candidate),
        )  # fmt: skip
        chosen = [
            (rate, loss) for rate, loss in zip(curve.rates, curve.losses, strict=True) if rate == curve.chosen
        ]
        for rate, loss in chosen:
            ax.plot([rate], [loss], color=color, marker="o", markersize=10, fillstyle="none")
    ax.set_xscale("log")
    ax.set_xticks(info.marks, [f"{rate:g}" for rate in info.marks])
    ax.minorticks_off()
    ax.set_xlabel(f"learning rate (losses after step {info.step})")
    return _finish(ax, unit=info.unit)


def _finish(ax: Axes, *, unit: str) -> Axes:
    ax.set_ylabel(unit)
    ax.grid(visible=True, alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    return ax
