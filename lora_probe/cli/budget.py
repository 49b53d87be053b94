"""``lora-probe budget``: what target sets cost at which rank, and which rank fits a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lora_probe.cli.lora_options import TARGETS, lora_options
from lora_probe.cli.reports import report_options
from lora_probe.cli.source_options import source_options

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["budget"]

EXAMPLES = """\b
Examples:
  lora-probe budget meta-llama/Llama-3.1-8B
  lora-probe budget Qwen/Qwen3-8B --targets attention --targets all-linear -r 8,16,64
  lora-probe budget google/gemma-3-4b-it --targets text:attention+text:mlp --max-adapter-size 50MB
  lora-probe budget openai-community/gpt2 --targets c_attn --targets all-linear --equal-to c_attn:r=16
  lora-probe budget Qwen/Qwen3-30B-A3B --by role --html budget.html
"""


@click.command(epilog=EXAMPLES, short_help="Show what LoRA costs on MODEL, for each target set and rank.")
@click.argument("model")
@click.option(
    "-t", "--targets", multiple=True, metavar="SPEC",
    help=f"A target set: {TARGETS} Repeat for more.  [default: the common sets that MODEL has]",
)  # fmt: skip
@click.option("-r", "--ranks", metavar="R,R,…", help="Ranks to count.  [default: 8,16,32; with a limit, any]")
@click.option("--max-parameters", metavar="N", help="Find the largest rank that trains at most N: 20M, 18Mi.")
@click.option("--max-adapter-size", metavar="SIZE", help="The same for the adapter's file: 50MB, 48MiB.")
@click.option("--equal-to", metavar="SPEC:r=N", help="The same for what another set trains.")
@click.option("--by", type=click.Choice(["role", "layer", "role-layer"]), help="Split each cost.")
@lora_options
@click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True,
    help="Type in which adapters are stored.",
)  # fmt: skip
@report_options
@source_options
def budget(*, model: str, **options: Any) -> None:
    """Show what LoRA costs on MODEL: parameters and adapter file, for each target set and rank.

    With a limit, find the largest rank that fits, for each set. MODEL is a hub id, a folder, or a path to a
    config.json. No weights are loaded.
    """
    from lora_probe.budgeting import By
    from lora_probe.budgeting import budget as budget_of
    from lora_probe.cli.reports import deliver, destinations
    from lora_probe.cli.source_options import scanned

    targets = destinations(options, model=model)
    graph = scanned(model, options)
    arguments = _arguments(options)
    result = budget_of(graph, **arguments)

    def csv() -> str:
        from lora_probe.report.budget_csv import budget_csv

        return budget_csv(result)

    def html() -> str:
        from lora_probe.report.budget_html import budget_page

        return budget_page(budget_of(graph, **{**arguments, "by": By.BOTH}))

    def markdown() -> str:
        from lora_probe.report.budget_markdown import budget_markdown

        return budget_markdown(result)

    def table() -> RenderableType:
        from lora_probe.report.budget_table import BudgetTable

        return BudgetTable(result)

    renderers = {"json": lambda: result.to_json(indent=2), "csv": csv, "html": html, "markdown": markdown}
    deliver(targets, renderers, table=table)


def _arguments(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options as arguments of the library's `budget`; what was left out keeps its default."""
    from lora_probe.budgeting.limits import read_bytes, read_count
    from lora_probe.cli.lora_options import given, lora_arguments
    from lora_probe.cli.lora_words import read_ranks, read_set_at_rank

    settings = lora_arguments(options)
    readers = {
        "ranks": read_ranks,
        "max_parameters": read_count,
        "max_adapter_size": read_bytes,
        "equal_to": read_set_at_rank,
    }
    for name, read in readers.items():
        if options[name] is not None:
            options[name] = read(options[name], option=f"--{name.replace('_', '-')}")
    return given({**options, **settings})
