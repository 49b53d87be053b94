"""Inference from losses of arms x seeds x items: differences, intervals, what holds of all at once."""

from __future__ import annotations

from lora_probe.piloting.statistics.comparing import FEWEST_SEEDS, Losses, compare_pairs
from lora_probe.piloting.statistics.paired import paired_difference

__all__ = ["FEWEST_SEEDS", "Losses", "compare_pairs", "paired_difference"]
