"""Plots of a budget with matplotlib: drawn onto the axes that are given, which are returned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.report.budget_figures import LayerHeat, RankCurves, layer_heat, rank_curves
from lora_probe.report.colors import set_color
from lora_probe.report.numbers import short
from lora_probe.report.wording import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LayerHeat", "RankCurves", "draw_layer_heat", "draw_rank_curves", "layer_heat", "rank_curves"]

_MOST_CELLS_WRITTEN = 12
"""Layers up to which each cell has room for its number."""


def draw_rank_curves(info: RankCurves, ax: Axes) -> Axes:
    """Draw one line a set on logarithmic axes, with a dot at each rank that has a row."""
    for place, curve in enumerate(info.curves):
        color = set_color(place)
        size = dict(zip(curve.ranks, curve.parameters, strict=True))
        ax.plot(curve.ranks, curve.parameters, color=color, linewidth=1.5, label=shown(curve.targets))
        ax.plot(curve.marked, [size[rank] for rank in curve.marked], color=color, marker="o", linestyle="")
    if info.limit is not None:
        ax.axhline(info.limit, color="#888888", linestyle="--", linewidth=1)
        ax.annotate(
            f"limit {short(info.limit)}", (0.01, info.limit), xycoords=("axes fraction", "data"),
            xytext=(0, 3), textcoords="offset points", fontsize="small",
        )  # fmt: skip
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xlabel("rank")
    ax.set_ylabel("trained parameters")
    ax.xaxis.set_major_formatter(lambda rank, _position: f"{rank:g}")
    ax.yaxis.set_major_formatter(lambda size, _position: short(round(size)))
    ax.grid(visible=True, alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    if info.curves:
        ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def draw_layer_heat(info: LayerHeat, ax: Axes) -> Axes:
    """Draw roles by layers, the darker the more; the number behind a role is its total."""
    cells = [[size or float("nan") for size in role.layers] for role in info.roles]
    if info.layers:
        image = ax.imshow(cells, aspect="auto", cmap="Blues", vmin=0)
        bar = ax.figure.colorbar(image, ax=ax, pad=0.02)
        bar.ax.yaxis.set_major_formatter(lambda size, _position: short(round(size)))
        bar.outline.set_visible(False)
        step = max(1, -(-len(info.layers) // _MOST_CELLS_WRITTEN))
        ax.set_xticks(range(0, len(info.layers), step), [str(each) for each in info.layers[::step]])
    labels = [f"{shown(role.role)}  {short(role.total)}" for role in info.roles]
    ax.set_yticks(range(len(labels)), labels, fontsize="small")
    ax.set_xlabel("layer")
    ax.set_title(f"{shown(info.targets)} at r={info.rank}", fontsize="medium", loc="left")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return ax
