"""``lora-probe diff``: in what two models, or two target sets, differ."""

from __future__ import annotations

from typing import Any

import click

from lora_probe.cli.source_options import source_options

__all__ = ["diff"]

EXAMPLES = """\b
Examples:
  lora-probe diff meta-llama/Llama-3.1-8B mistralai/Mistral-7B-v0.3
  lora-probe diff Qwen/Qwen3-8B --targets all-linear --targets attention+mlp
  lora-probe diff Qwen/Qwen3-8B Qwen/Qwen3-14B --targets attention -r 8
"""
DIFFERENT = 1
"""Exit code with --exit-code where the sides differ, as of other programs called diff."""


@click.command(epilog=EXAMPLES, short_help="Show in what two models, or two target sets, differ.")
@click.argument("first", metavar="MODEL")
@click.argument("second", metavar="[OTHER_MODEL]", required=False)
@click.option(
    "-t", "--targets", multiple=True, metavar="SPEC",
    help="Compare what this set trains. Twice: one set for each side.  [default: compare whole models]",
)  # fmt: skip
@click.option("-r", "--rank", type=int, default=16, show_default=True, help="Rank of the sets.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if there is a difference.")
@source_options
def diff(
    *,
    first: str,
    second: str | None,
    targets: tuple[str, ...],
    rank: int,
    as_json: bool,
    exit_code: bool,
    **options: Any,
) -> int:
    """Show in which sites, roles and counts two models differ, or two target sets on one model.

    A model is a hub id, a folder, or a path to a config.json. No weights are loaded.
    """
    from lora_probe.cli.output import STDOUT, print_renderable, write_text
    from lora_probe.cli.source_options import scanned
    from lora_probe.comparing import diff as difference_of

    if second is None and len(targets) < 2:  # noqa: PLR2004 - two sides
        raise click.UsageError("give two models, or one and --targets twice")
    graph = scanned(first, dict(options))
    other = None if second is None else scanned(second, dict(options))
    difference = difference_of(graph, other, targets=targets, rank=rank)
    if as_json:
        write_text(STDOUT, difference.to_json(indent=2))
    else:
        from lora_probe.report.diff_table import DiffTable

        print_renderable(DiffTable(difference))
    return DIFFERENT if exit_code and not difference.is_empty else 0
