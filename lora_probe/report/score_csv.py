"""Scores as CSV: one line a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.report.csvfile import records_csv
from lora_probe.scoring.records import SiteScore

if TYPE_CHECKING:
    from lora_probe.scoring.records import Scores

__all__ = ["score_csv"]


def score_csv(scores: Scores) -> str:
    """Return the fields of `SiteScore` of every module."""
    return records_csv(SiteScore, scores.sites)
