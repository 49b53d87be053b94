"""A budget as CSV: its rows, or their parts where it was split."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.budgeting.records import Part, Row
from lora_probe.report.csvfile import records_csv

if TYPE_CHECKING:
    from lora_probe.budgeting.records import Budget

__all__ = ["budget_csv"]


def budget_csv(budget: Budget) -> str:
    """Return the fields of each `Row`; a split budget gives those of each `Part`."""
    return records_csv(Part, budget.parts) if budget.by else records_csv(Row, budget.rows)
