"""Plots with matplotlib: a function computes, another draws onto the axes it is given and returns them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.report.colors import REST, block_color
from lora_probe.report.composition import LayerParameters, RoleShares, layer_parameters, role_shares
from lora_probe.report.numbers import percent, short
from lora_probe.report.wording import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LayerParameters", "RoleShares", "draw_layers", "draw_roles", "layer_parameters", "role_shares"]

_MOST_BARS = 16


def draw_roles(info: RoleShares, ax: Axes, *, most: int = _MOST_BARS) -> Axes:
    """Draw one horizontal bar a role, the largest on top; the roles beyond the first `most` share one."""
    labels = [shown(role) for role in info.roles[:most]]
    sizes = list(info.parameters[:most])
    colors = [block_color(block) for block in info.blocks[:most]]
    if len(info.roles) > most:
        labels.append(f"the other {len(info.roles) - most}")
        sizes.append(sum(info.parameters[most:]))
        colors.append(REST)
    bars = ax.barh(range(len(sizes)), sizes, color=colors, height=0.75)
    texts = [f"{short(size)}  {percent(size, info.total_parameters)}" for size in sizes]
    ax.bar_label(bars, texts, padding=4, fontsize="small")
    ax.set_yticks(range(len(labels)), labels)
    ax.invert_yaxis()
    ax.margins(x=0.25, y=0.02)
    ax.set_xlabel("parameters")
    ax.xaxis.set_major_formatter(lambda size, _position: short(round(size)))
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def draw_layers(info: LayerParameters, ax: Axes) -> Axes:
    """Draw one bar a layer, stacked by block."""
    from matplotlib.ticker import MaxNLocator

    below = [0] * len(info.layers)
    for block, sizes in info.blocks.items():
        color = block_color(block)
        ax.bar(info.layers, sizes, bottom=below, color=color, width=0.8, label=shown(block))
        below = [start + size for start, size in zip(below, sizes, strict=True)]
    ax.set_xlabel(f"layer ({shown(info.tower)})" if info.tower else "layer")
    ax.set_ylabel("parameters")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_formatter(lambda size, _position: short(round(size)))
    ax.margins(x=0.02)
    ax.spines[["top", "right"]].set_visible(False)
    if info.blocks:
        ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), reverse=True)
    return ax
