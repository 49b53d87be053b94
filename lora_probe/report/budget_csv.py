"""A budget as CSV: its rows, or their parts where it was split."""

from __future__ import annotations

import csv
import json
from dataclasses import fields
from io import StringIO
from typing import TYPE_CHECKING

from lora_probe.budgeting.records import Part, Row
from lora_probe.report.csvfile import cell

if TYPE_CHECKING:
    from lora_probe.budgeting.records import Budget

__all__ = ["budget_csv"]


def budget_csv(budget: Budget) -> str:
    """Return one line a row with the fields of `Row`; a split budget gives one line a part, those of `Part`.

    Sizes are exact integers, a list is JSON, and what is not known is an empty cell.
    """
    record, values = (Part, budget.parts) if budget.by else (Row, budget.rows)
    columns = [item.name for item in fields(record)]
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for each in values:
        writer.writerow([_cell(getattr(each, name)) for name in columns])
    return text.getvalue()


def _cell(value: object) -> object:
    return cell(json.dumps(value) if isinstance(value, tuple) else value)
