"""The summary of a graph as Markdown, for an issue, a model card or a lab book."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lora_probe.report.numbers import exact, percent
from lora_probe.report.wording import counted, facts, flow, observations, outcome, shown
from lora_probe.summary import summarize
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lora_probe.graph import ModuleGraph
    from lora_probe.summary import Row, Summary

__all__ = ["code", "graph_markdown", "line", "plain"]

_MARKUP = re.compile(r"([\\`*\[\]<>|~&$]|(?<![^\W_])_|_(?![^\W_]))")
"""What Markdown, GitHub's tables and formulas, or embedded HTML read as markup within a line; of underscores,
those at the ends of words."""


def graph_markdown(graph: ModuleGraph, *, rank: int) -> str:
    """Return a heading, the table, its totals and the notes; LoRA is counted at `rank`."""
    summary = summarize(graph, rank=rank)
    lines = [
        f"## {code(graph.model)}",
        "",
        " · ".join(plain(fact) for fact in facts(graph)),
        "",
        f"Source: {code(graph.source)}",
        "",
    ]
    if summary.rows:
        lines += [*_table(summary, graph.total_parameters), ""]
    lines += [plain(outcome(summary)), ""]
    lines += [f"- {plain(note)}" for note in observations(graph, summary)]
    return "\n".join(lines).rstrip("\n") + "\n"


def _table(summary: Summary, whole: int) -> Iterator[str]:
    yield line(["role", "where", "in → out", "parameters", "share", f"LoRA r={summary.rank}"])
    yield line([":--", ":--", "--:", "--:", "--:", "--:"])
    for row in summary.rows:
        yield line(_cells(row, whole))
    total = summary.total
    for name, count, lora in (
        (f"{exact(total.sites)} sites", total.parameters, exact(total.lora_parameters)),
        ("other weights", summary.uncovered_parameters, ""),
        ("model", whole, ""),
    ):
        yield line(
            [
                f"**{name}**",
                "",
                "",
                f"**{exact(count)}**",
                plain(percent(count, whole)),
                lora and f"**{lora}**",
            ]
        )


def _cells(row: Row, whole: int) -> list[str]:
    tied = "".join(f"<br>tied to {code(str(pattern))}" for pattern in row.tied_to)
    return [
        code(f"{row.tower}:{row.role}"),
        code(counted(row.pattern)) + tied,
        flow(row),
        "tied" if row.tied_to else exact(row.total.parameters),
        "" if row.tied_to else plain(percent(row.total.parameters, whole)),
        exact(row.total.lora_parameters) if row.adaptable else "—",
    ]


def line(cells: Iterable[str]) -> str:
    """Return one line of a table."""
    return f"| {' | '.join(cells)} |"


def plain(text: str) -> str:
    """Return `text` so that it reads as it is, on one line."""
    return _MARKUP.sub(r"\\\1", printable(text))


def code(text: str) -> str:
    """Return `text` as a code span that fits into a table: fenced well enough, with its pipes escaped."""
    safe = shown(text).replace("|", "\\|")
    longest = max(map(len, re.findall("`+", safe)), default=0)
    fence = "`" * (longest + 1)
    space = " " if longest or not safe.strip() else ""
    return f"{fence}{space}{safe or ' '}{space}{fence}"
