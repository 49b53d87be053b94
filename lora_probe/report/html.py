"""A graph as HTML: a fragment for notebooks, and a page that needs nothing but itself."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_probe.report.charts import HEIGHT, WIDTH, block_shares, layer_charts
from lora_probe.report.colors import block_color
from lora_probe.report.numbers import exact, percent
from lora_probe.report.wording import facts, flow, observations, outcome, shown
from lora_probe.summary import summarize
from lora_probe.text import printable

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from lora_probe.graph import ModuleGraph
    from lora_probe.patterns import Pattern

__all__ = ["graph_fragment", "graph_page"]

NOTEBOOK_RANK = 16
_TEMPLATES = Path(__file__).parent / "templates"


def graph_fragment(graph: ModuleGraph, *, rank: int = NOTEBOOK_RANK) -> str:
    """Return a ``<div>`` with the grouped table, totals and notes, in the colours of the page around it."""
    return _environment().get_template("graph.html.j2").render(_context(graph, rank))


def graph_page(graph: ModuleGraph, *, rank: int) -> str:
    """Return a document without scripts or links: the fragment, charts of the layers, the other weights."""
    page = _environment().get_template("page.html.j2")
    return page.render(_context(graph, rank), charts=layer_charts(graph), width=WIDTH, height=HEIGHT)


def _context(graph: ModuleGraph, rank: int) -> dict[str, Any]:
    """Return what the templates may name."""
    summary = summarize(graph, rank=rank)
    whole = summary.total_parameters
    return {
        "graph": graph,
        "summary": summary,
        "facts": facts(graph),
        "blocks": block_shares(summary),
        "outcome": outcome(summary),
        "notes": observations(graph, summary),
        "share": lambda count: percent(count, whole),
        "filled": lambda count: round(100 * count / whole, 2) if whole else 0,
    }


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {
        "breakable": _breakable,
        "color": block_color,
        "exact": exact,
        "flow": flow,
        "printable": printable,
        "shown": shown,
    }
    return environment


def _breakable(pattern: Pattern) -> Markup:
    """Return a path that a browser may break after its dots."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in shown(str(pattern)).replace(".", ".\0").split("\0"))
