"""``lora-probe models``: what can be scanned without a network."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from lora_probe.catalog import Entry

__all__ = ["models"]

EXAMPLES = """\b
Examples:
  lora-probe models
  lora-probe models llama-3
  lora-probe models 'qwen/*-vl-*'
"""


@click.command(epilog=EXAMPLES, short_help="List the models that need no network.")
@click.argument("pattern", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def models(*, pattern: str | None, as_json: bool) -> None:
    """List the published models that can be scanned without a network.

    PATTERN is part of an id or of a model type, or a whole one with the wildcards * and ?. Case does not
    matter.
    """
    from lora_probe.catalog import entries
    from lora_probe.cli.output import STDOUT, print_renderable, write_text

    chosen = [entry for entry in entries() if pattern is None or _matches(entry, pattern.casefold())]
    if not chosen and pattern is not None:
        from lora_probe.catalog import near
        from lora_probe.errors import NoSuchModels

        raise NoSuchModels(pattern=pattern, near=near(pattern))
    if as_json:
        import json

        write_text(STDOUT, json.dumps({"models": [_facts(entry) for entry in chosen]}, indent=2))
    else:
        print_renderable(_table(chosen))


def _matches(entry: Entry, pattern: str) -> bool:
    names = [name.casefold() for name in (entry.model_id, *entry.aliases, entry.model_type or "")]
    if set(pattern) & set("*?["):
        return any(fnmatchcase(name, pattern) for name in names)
    return any(pattern in name for name in names)


def _facts(entry: Entry) -> dict[str, object]:
    return {
        "model": entry.model_id,
        "aliases": list(entry.aliases),
        "family": entry.family,
        "model_type": entry.model_type,
        "architecture": entry.architecture,
        "total_parameters": entry.total_parameters,
    }


def _table(chosen: Sequence[Entry]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from lora_probe.report.numbers import short
    from lora_probe.report.wording import shown

    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False, padding=(0, 1), collapse_padding=True)
    table.add_column("model", overflow="fold")
    table.add_column("family", style="dim", no_wrap=True)
    table.add_column("type", style="dim", overflow="fold")
    table.add_column("parameters", justify="right", no_wrap=True)
    for entry in chosen:
        size = short(entry.total_parameters) if entry.total_parameters is not None else "—"
        table.add_row(
            *(Text(shown(text)) for text in (entry.model_id, entry.family, entry.model_type or "—", size))
        )
    table.caption = f"{len(chosen)} models"
    table.caption_justify = "left"
    return table
