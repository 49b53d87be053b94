"""What a target set costs: elements, bytes and the rank that fits a limit."""

from __future__ import annotations

from lora_probe.budgeting.records import Budget, By, Part, Row, TargetSet, Unfit
from lora_probe.budgeting.sweep import budget

__all__ = ["Budget", "By", "Part", "Row", "TargetSet", "Unfit", "budget"]
