"""``lora-probe compare``: what a pilot has found, said again from its folder alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lora_probe.cli.reports import report_options

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["compare"]

EXAMPLES = """\b
Examples:
  lora-probe compare pilot
  lora-probe compare pilot --json | jq .verdict.sentence
  lora-probe compare node1/pilot node2/pilot --html merged.html
"""


@click.command(epilog=EXAMPLES, short_help="Say what a pilot in DIR has found so far.")
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=click.Path())
@report_options
def compare(*, folders: tuple[str, ...], **options: Any) -> None:
    """Analyse the pilot in DIR again, complete or not: nothing is trained, no model is loaded.

    Several folders are merged: they must hold the same plan, as shards do that ran on different machines.
    """
    from lora_probe.cli.reports import check_destinations, deliver, destinations
    from lora_probe.piloting.run import compare as compare_folders

    targets = destinations(options, model=folders[0])
    for folder in folders[1:]:
        check_destinations(list(targets.values()), model=folder)
    report = compare_folders(*folders)

    def csv() -> str:
        from lora_probe.report.pilot_csv import pilot_csv

        return pilot_csv(report.analysis)

    def html() -> str:
        from lora_probe.report.pilot_html import pilot_page

        return pilot_page(report.analysis)

    def markdown() -> str:
        from lora_probe.report.pilot_markdown import pilot_markdown

        return pilot_markdown(report.analysis)

    def table() -> RenderableType:
        from lora_probe.report.pilot_table import PilotTable

        return PilotTable(report.analysis)

    renderers = {"json": lambda: report.to_json(indent=2), "csv": csv, "html": html, "markdown": markdown}
    deliver(targets, renderers, table=table)
