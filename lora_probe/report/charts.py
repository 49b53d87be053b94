"""What the bars of the HTML page measure, in the units of its drawings."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_probe.report.colors import REST, block_color
from lora_probe.report.composition import layer_parameters
from lora_probe.report.numbers import percent, short

if TYPE_CHECKING:
    from lora_probe.graph import ModuleGraph
    from lora_probe.summary import Summary

__all__ = ["HEIGHT", "WIDTH", "Bar", "BlockShare", "LayerChart", "block_shares", "layer_charts"]

WIDTH, HEIGHT = 1000, 176
"""Of a chart, in its own units."""
_FILLED = 0.82
"""Part of a layer's place that its bar takes."""
_MOST_LAYERS = 512
"""A chart of more layers would be a grey haze and a large file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockShare:
    """One block's part of the whole model, over all towers."""

    name: str
    color: str
    parameters: int
    share: str
    width: float
    """Percent of the model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One block of one layer: a rectangle, measured from the top left."""

    title: str
    color: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerChart:
    """The layers of one tower side by side, each a stack of its blocks."""

    tower: str
    bars: tuple[Bar, ...]


def block_shares(summary: Summary) -> list[BlockShare]:
    """Return the blocks from the largest to the smallest, then what is outside of every site."""
    sizes: defaultdict[str, int] = defaultdict(int)
    for (_, block), total in summary.blocks.items():
        sizes[block] += total.parameters
    named = [
        (block, block_color(block), sizes[block]) for block in sorted(sizes, key=lambda key: -sizes[key])
    ]
    if summary.uncovered_parameters:
        named.append(("other weights", REST, summary.uncovered_parameters))
    whole = summary.total_parameters
    return [
        BlockShare(
            name=name.replace("_", " "),
            color=color,
            parameters=size,
            share=percent(size, whole),
            width=round(100 * size / whole, 3),
        )
        for name, color, size in named
        if size
    ]


def layer_charts(graph: ModuleGraph) -> list[LayerChart]:
    """Return a chart for each tower of more than one layer."""
    towers = dict.fromkeys(site.tower for site in graph.sites if site.layer is not None)
    return [chart for tower in towers if (chart := _layer_chart(graph, tower))]


def _layer_chart(graph: ModuleGraph, tower: str) -> LayerChart | None:
    info = layer_parameters(graph, tower=tower)
    highest = max(map(sum, zip(*info.blocks.values(), strict=True)), default=0)
    if not highest or not 1 < len(info.layers) <= _MOST_LAYERS:
        return None
    place = WIDTH / len(info.layers)
    tops = [float(HEIGHT)] * len(info.layers)
    bars = []
    for block, sizes in info.blocks.items():
        for index, (layer, size) in enumerate(zip(info.layers, sizes, strict=True)):
            if size:
                height = HEIGHT * size / highest
                tops[index] -= height
                bars.append(
                    Bar(
                        title=f"layer {layer}, {block}: {short(size)}",
                        color=block_color(block),
                        x=round(index * place, 2),
                        y=round(tops[index], 2),
                        width=round(place * _FILLED, 2),
                        height=round(height, 2),
                    )
                )
    return LayerChart(tower=tower, bars=tuple(bars))
