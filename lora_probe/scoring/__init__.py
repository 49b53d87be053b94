"""Scores: three cheap signals of where LoRA may pay, from a few forward and backward passes.

They propose what a pilot should try and decide nothing: a pilot does (`lora_probe.piloting`). Each signal is
one file of `signals`, the only part that knows torch; rankings, heat maps and proposals are made of records.
"""

from __future__ import annotations

from lora_probe.scoring.proposals import ProposedSet, propose
from lora_probe.scoring.records import RoleScore, Scores, Signal, SiteScore, Skipped
from lora_probe.scoring.run import score

__all__ = ["ProposedSet", "RoleScore", "Scores", "Signal", "SiteScore", "Skipped", "propose", "score"]
