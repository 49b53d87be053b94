"""A pilot as CSV: one line an arm."""

from __future__ import annotations

import csv
import json
from dataclasses import fields
from io import StringIO
from typing import TYPE_CHECKING

from lora_probe.piloting.outcome import LeaderboardRow
from lora_probe.report.csvfile import cell

if TYPE_CHECKING:
    from lora_probe.piloting.outcome import Analysis

__all__ = ["pilot_csv"]


def pilot_csv(analysis: Analysis) -> str:
    """Return the leaderboard with the fields of `LeaderboardRow`.

    Nothing is rounded, a list is JSON, and what is not known is an empty cell.
    """
    columns = [item.name for item in fields(LeaderboardRow)]
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in analysis.leaderboard:
        writer.writerow([_cell(getattr(row, name)) for name in columns])
    return text.getvalue()


def _cell(value: object) -> object:
    return cell(json.dumps(value) if isinstance(value, tuple) else value)
