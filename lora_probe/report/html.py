"""A graph as HTML: a fragment for notebooks, and a page that needs nothing but itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_probe.report.charts import HEIGHT, WIDTH, block_shares, layer_charts
from lora_probe.report.numbers import percent
from lora_probe.report.templating import environment
from lora_probe.report.wording import facts, observations, outcome
from lora_probe.summary import summarize

if TYPE_CHECKING:
    from lora_probe.graph import ModuleGraph

__all__ = ["graph_fragment", "graph_page"]

NOTEBOOK_RANK = 16


def graph_fragment(graph: ModuleGraph, *, rank: int = NOTEBOOK_RANK) -> str:
    """Return a ``<div>`` with the grouped table, totals and notes, in the colours of the page around it."""
    return environment().get_template("graph.html.j2").render(_context(graph, rank))


def graph_page(graph: ModuleGraph, *, rank: int) -> str:
    """Return a document without scripts or links: the fragment, charts of the layers, the other weights."""
    page = environment().get_template("page.html.j2")
    return page.render(_context(graph, rank), charts=layer_charts(graph), width=WIDTH, height=HEIGHT)


def _context(graph: ModuleGraph, rank: int) -> dict[str, Any]:
    """Return what the templates may name."""
    summary = summarize(graph, rank=rank)
    whole = summary.total_parameters
    return {
        "graph": graph,
        "versions": graph.versions,
        "summary": summary,
        "facts": facts(graph),
        "blocks": block_shares(summary),
        "outcome": outcome(summary),
        "notes": observations(graph, summary),
        "share": lambda count: percent(count, whole),
        "filled": lambda count: round(100 * count / whole, 2) if whole else 0,
    }
