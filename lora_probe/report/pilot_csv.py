"""A pilot as CSV: one line an arm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.piloting.outcome import LeaderboardRow
from lora_probe.report.csvfile import records_csv

if TYPE_CHECKING:
    from lora_probe.piloting.outcome import Analysis

__all__ = ["pilot_csv"]


def pilot_csv(analysis: Analysis) -> str:
    """Return the leaderboard with the fields of `LeaderboardRow`."""
    return records_csv(LeaderboardRow, analysis.leaderboard)
