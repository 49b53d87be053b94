"""``lora-probe scan``: the layers of a model, their roles, and what LoRA would add."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lora_probe.cli.reports import report_options
from lora_probe.cli.source_options import source_options
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

    from lora_probe.graph import ModuleGraph
    from lora_probe.scanner.verification import Mismatch

__all__ = ["scan"]

EXAMPLES = """\b
Examples:
  lora-probe scan meta-llama/Llama-3.1-8B
  lora-probe scan ./checkpoint-500 -r 64
  lora-probe scan path/to/config.json --json > graph.json
  lora-probe scan google/gemma-3-4b-it --html gemma.html --csv gemma.csv
"""
DIFFERS = 1
"""Exit code where PEFT does otherwise than the scan says."""


@click.command(epilog=EXAMPLES)
@click.argument("model")
@click.option(
    "-r", "--rank", type=click.IntRange(min=1), default=16, show_default=True, help="Rank of the LoRA."
)
@report_options
@source_options
@click.option("--verify", is_flag=True, help="Also let PEFT adapt every site, without weights, and compare.")
def scan(
    *,
    model: str,
    rank: int,
    verify: bool,
    no_cache: bool,
    **where: Any,
) -> int:
    """Show every layer of MODEL that LoRA fits, by role. No weights are loaded.

    MODEL is a hub id, a folder, or a path to a config.json. With --verify, differences go to standard error,
    and the exit code is 1 where there are any.
    """
    from lora_probe.cli.output import waiting
    from lora_probe.cli.reports import destinations
    from lora_probe.scanner import scan as scan_model
    from lora_probe.scanner import verify as verify_model

    targets = destinations(where, model=model)
    with waiting(f"Scanning {printable(model)}"):
        graph = scan_model(model, **where, cache=not no_cache)
    _show(graph, targets, rank=rank)
    if not verify:
        return 0
    with waiting(f"Verifying {printable(model)}"):
        differences = verify_model(model, **where)
    return _report(graph, differences)


def _show(graph: ModuleGraph, targets: Mapping[str, str], *, rank: int) -> None:
    """Write what was asked for; without any of it, print the table."""
    from lora_probe.cli.reports import deliver

    def csv() -> str:
        from lora_probe.report.csvfile import sites_csv

        return sites_csv(graph, rank=rank)

    def html() -> str:
        from lora_probe.report.html import graph_page

        return graph_page(graph, rank=rank)

    def markdown() -> str:
        from lora_probe.report.markdown import graph_markdown

        return graph_markdown(graph, rank=rank)

    def table() -> RenderableType:
        from lora_probe.report.table import GraphTable
        from lora_probe.summary import summarize

        return GraphTable(graph, summarize(graph, rank=rank))

    renderers = {"json": lambda: graph.to_json(indent=2), "csv": csv, "html": html, "markdown": markdown}
    deliver(targets, renderers, table=table)


def _report(graph: ModuleGraph, differences: Sequence[Mismatch]) -> int:
    """Say on standard error whether PEFT agrees with the scan, and return the exit code."""
    for difference in differences:
        click.echo(
            f"differs: {printable(difference.parameter or difference.path)}: {printable(difference.message)}",
            err=True,
        )
    if differences:
        return DIFFERS
    sites = sum(site.adaptable is not None for site in graph)
    click.echo(f"verified: PEFT makes the same adapters on all {sites} sites", err=True)
    return 0
