"""Heat maps of scores with matplotlib: drawn onto the axes that are given, which are returned."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from lora_probe.report.score_wording import HEAT_TITLES
from lora_probe.report.wording import shown
from lora_probe.scoring.heat import HeatMap, heat_map, heat_maps

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lora_probe.scoring.records import Scores

__all__ = ["HeatMap", "draw_heat_map", "heat_map", "heat_map_png", "heat_maps"]

_WIDTH, _ROW, _MARGIN, _DPI = 9.0, 0.32, 1.3, 150
"""Inches, and dots for each."""


def draw_heat_map(info: HeatMap, ax: Axes) -> Axes:
    """Draw layers by roles: the darker, the sooner to be adapted; a gap where there is no such module."""
    from matplotlib.ticker import MaxNLocator

    shares = [[info.share(value) for value in row] for row in info.values]
    filled = [[float("nan") if each is None else each for each in row] for row in shares]
    ax.imshow(filled, aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    ax.set_yticks(range(len(info.roles)), [shown(role) for role in info.roles])
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.xaxis.set_major_formatter(
        lambda place, _position: str(info.layers[round(place)]) if 0 <= place < len(info.layers) else ""
    )
    ax.set_xlabel(f"layer ({shown(info.tower)})")
    ax.set_title(HEAT_TITLES[info.signal], fontsize="medium", loc="left")
    return ax


def heat_map_png(scores: Scores) -> bytes:
    """Return the maps of all signals, one below the other, as a PNG file."""
    from matplotlib.figure import Figure

    maps = heat_maps(scores)
    heights = [_ROW * len(each.roles) + _MARGIN for each in maps]
    figure = Figure(figsize=(_WIDTH, sum(heights) or 1), layout="constrained")
    for place, each in enumerate(maps):
        if place == 0:
            grid = figure.add_gridspec(len(maps), 1, height_ratios=heights)
        draw_heat_map(each, figure.add_subplot(grid[place]))
    file = BytesIO()
    figure.savefig(file, format="png", dpi=_DPI)
    return file.getvalue()
