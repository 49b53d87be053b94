"""Scores as CSV: one line a module."""

from __future__ import annotations

import csv
from dataclasses import fields
from io import StringIO
from typing import TYPE_CHECKING

from lora_probe.report.csvfile import cell
from lora_probe.scoring.records import SiteScore

if TYPE_CHECKING:
    from lora_probe.scoring.records import Scores

__all__ = ["score_csv"]


def score_csv(scores: Scores) -> str:
    """Return the fields of `SiteScore`, nothing rounded; what is not known is an empty cell."""
    columns = [item.name for item in fields(SiteScore)]
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for site in scores.sites:
        writer.writerow([cell(getattr(site, name)) for name in columns])
    return text.getvalue()
