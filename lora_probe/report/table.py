"""The summary of a graph on a terminal: the most telling layout that fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.measure import Measurement
from rich.text import Text

from lora_probe.report.narrow import NarrowTable
from lora_probe.report.wide import wide_tables
from lora_probe.report.wording import facts, observations, outcome, shown
from lora_probe.text import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from lora_probe.graph import ModuleGraph
    from lora_probe.summary import Summary

__all__ = ["GraphTable", "Hanging"]

_UNBOUNDED = 100_000


class GraphTable:
    """One summarized graph as a rich renderable: heading, table, outcome and notes."""

    def __init__(self, graph: ModuleGraph, summary: Summary) -> None:
        self._graph = graph
        self._summary = summary

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the parts, with the table in the first layout that fits the width."""
        graph, summary = self._graph, self._summary
        yield Text(shown(graph.model), style="bold")
        yield Text(" · ".join(map(shown, facts(graph))))
        yield Text(f"source: {shown(graph.source)}", style="dim")
        yield ""
        if summary.rows:
            yield self._table(console, options)
            yield ""
        yield Text(outcome(summary), style="" if summary.total.adaptable_sites else "bold yellow")
        for note in observations(graph, summary):
            yield Hanging("note: ", printable(note))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Measure the table with every detail: that is how wide a file is."""
        widest = next(wide_tables(self._summary))
        return Measurement.get(console, options.update(max_width=_UNBOUNDED), widest)

    def _table(self, console: Console, options: ConsoleOptions) -> RenderableType:
        unbounded = options.update(max_width=_UNBOUNDED)
        for table in wide_tables(self._summary):
            if Measurement.get(console, unbounded, table).maximum <= options.max_width:
                return table
        return NarrowTable(self._summary)


class Hanging:
    """A paragraph whose first words stand out to its left."""

    def __init__(self, label: str, text: str) -> None:
        self._label = label
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        indent = len(self._label)
        for index, line in enumerate(Text(self._text).wrap(console, max(options.max_width - indent, indent))):
            yield Text.assemble((self._label if index == 0 else " " * indent, "yellow"), line)
