"""Records as CSV: one line each, for scripts and spreadsheets."""

from __future__ import annotations

import csv
import json
from dataclasses import fields
from io import StringIO
from typing import TYPE_CHECKING, Any

from lora_probe.graph import Site
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lora_probe.graph import ModuleGraph

__all__ = ["records_csv", "sites_csv"]

_FORMULA = ("=", "+", "-", "@")
"""What a spreadsheet would take for the start of a formula."""


def sites_csv(graph: ModuleGraph, *, rank: int) -> str:
    """Return one line a site: the fields of :class:`~lora_probe.graph.Site`, its role, and LoRA at `rank`.

    Sizes are exact integers. A shape is written ``128x2048``; what is not known is an empty cell. Control
    characters of a name are escaped, and a name that a spreadsheet would calculate starts with an apostrophe.
    """
    columns = [item.name for item in fields(Site)]
    lines = []
    for site in graph.sites:
        lora = site.lora_parameters(rank) if site.adaptable else 0
        values = [getattr(site, name) for name in columns]
        shaped = ["x".join(map(str, value)) if isinstance(value, tuple) else value for value in values]
        lines.append([*shaped, site.role, lora])
    return _csv([*columns, "role", f"lora_parameters_r{rank}"], lines)


def records_csv(record: type[Any], values: Iterable[Any]) -> str:
    """Return one line for each of `values`, with the fields of `record`, their class.

    Nothing is rounded, a list is JSON, and what is not known is an empty cell. Texts are made safe as above.
    """
    columns = [item.name for item in fields(record)]
    return _csv(columns, ([getattr(value, name) for name in columns] for value in values))


def _csv(columns: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in line] for line in lines)
    return text.getvalue()


def _cell(value: object) -> object:
    """Return `value` as a cell that neither a terminal nor a spreadsheet obeys."""
    if isinstance(value, tuple):
        value = json.dumps(value)
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return value
    text = printable(str(value))
    return f"'{text}" if text.startswith(_FORMULA) else text
