"""``lora-probe scan``: the layers of a model, their roles, and what LoRA would add."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lora_probe.cli.source_options import source_options
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

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
FILE = click.Path(dir_okay=False, allow_dash=True)
DIFFERS = 1
"""Exit code where PEFT does otherwise than the scan says."""


@click.command(epilog=EXAMPLES)
@click.argument("model")
@click.option(
    "-r", "--rank", type=click.IntRange(min=1), default=16, show_default=True, help="Rank of the LoRA."
)
@click.option("--json", "as_json", is_flag=True, help="Print the whole graph as one JSON document.")
@click.option("--csv", type=FILE, help="Write one row a site as CSV; - is standard output.")
@click.option("--html", type=FILE, help="Write a self-contained page; - is standard output.")
@click.option("--markdown", type=FILE, help="Write the summary as Markdown; - is standard output.")
@source_options
@click.option("--verify", is_flag=True, help="Also let PEFT adapt every site, without weights, and compare.")
def scan(
    *,
    model: str,
    rank: int,
    as_json: bool,
    csv: str | None,
    html: str | None,
    markdown: str | None,
    verify: bool,
    no_cache: bool,
    **where: Any,
) -> int:
    """Show every layer of MODEL that LoRA fits, by role. No weights are loaded.

    MODEL is a hub id, a folder, or a path to a config.json. With --verify, differences go to standard error,
    and the exit code is 1 where there are any.
    """
    from lora_probe.cli.output import STDOUT, waiting
    from lora_probe.scanner import scan as scan_model
    from lora_probe.scanner import verify as verify_model

    if [csv, html, markdown].count(STDOUT) + as_json > 1:
        raise click.UsageError("only one of --json and the files can go to standard output")
    with waiting(f"Scanning {printable(model)}"):
        graph = scan_model(model, **where, cache=not no_cache)
    _show(graph, rank=rank, as_json=as_json, csv=csv, html=html, markdown=markdown)
    if not verify:
        return 0
    with waiting(f"Verifying {printable(model)}"):
        differences = verify_model(model, **where)
    return _report(graph, differences)


def _show(
    graph: ModuleGraph, *, rank: int, as_json: bool, csv: str | None, html: str | None, markdown: str | None
) -> None:
    """Write what was asked for; without any of it, print the table."""
    from lora_probe.cli.output import STDOUT, print_renderable, write_text

    if as_json:
        write_text(STDOUT, graph.to_json(indent=2))
    if csv:
        from lora_probe.report.csvfile import sites_csv

        write_text(csv, sites_csv(graph, rank=rank))
    if html:
        from lora_probe.report.html import graph_page

        write_text(html, graph_page(graph, rank=rank))
    if markdown:
        from lora_probe.report.markdown import graph_markdown

        write_text(markdown, graph_markdown(graph, rank=rank))
    if not (as_json or csv or html or markdown):
        from lora_probe.report.table import GraphTable
        from lora_probe.summary import summarize

        print_renderable(GraphTable(graph, summarize(graph, rank=rank)))


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
