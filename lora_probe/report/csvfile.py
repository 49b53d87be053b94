"""The sites of a graph as CSV: one row each, for scripts and spreadsheets."""

from __future__ import annotations

import csv
from dataclasses import fields
from io import StringIO
from typing import TYPE_CHECKING

from lora_probe.graph import Site
from lora_probe.text import printable

if TYPE_CHECKING:
    from lora_probe.graph import ModuleGraph

__all__ = ["cell", "sites_csv"]

_FORMULA = ("=", "+", "-", "@")
"""What a spreadsheet would take for the start of a formula."""


def sites_csv(graph: ModuleGraph, *, rank: int) -> str:
    """Return one line a site: the fields of :class:`~lora_probe.graph.Site`, its role, and LoRA at `rank`.

    Sizes are exact integers. A shape is written ``128x2048``; what is not known is an empty cell. Control
    characters of a name are escaped, and a name that a spreadsheet would calculate starts with an apostrophe.
    """
    columns = [item.name for item in fields(Site)]
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, "role", f"lora_parameters_r{rank}"])
    for site in graph.sites:
        lora = site.lora_parameters(rank) if site.adaptable else 0
        values = [getattr(site, name) for name in columns]
        writer.writerow([*map(cell, values), cell(site.role), lora])
    return text.getvalue()


def cell(value: object) -> object:
    """Return `value` as a cell that neither a terminal nor a spreadsheet obeys."""
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return value
    text = printable(str(value))
    return f"'{text}" if text.startswith(_FORMULA) else text
