"""Scores as Markdown, for an issue, a model card or a lab book."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.report.markdown import code, line, plain
from lora_probe.report.score_wording import TITLES, role_cells, role_name, score_facts, score_notes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lora_probe.scoring.proposals import ProposedSet
    from lora_probe.scoring.records import Scores

__all__ = ["score_markdown"]


def score_markdown(scores: Scores, proposals: Sequence[ProposedSet] = ()) -> str:
    """Return a table of the roles, the sets to try, and the notes."""
    lines = [
        f"## LoRA scores: {code(scores.model.model)}",
        "",
        " · ".join(map(plain, score_facts(scores))),
        "",
        line(["role", *TITLES]),
        line([":--", *("--:" for _ in TITLES)]),
        *(line([plain(role_name(role)), *map(plain, role_cells(role))]) for role in scores.roles),
        "",
    ]
    if proposals:
        tried = (f"- {code(each.targets)}: {plain(each.reason)}" for each in proposals)
        lines += ["To try in a pilot:", "", *tried, ""]
    return "\n".join([*lines, *(f"- {plain(note)}" for note in score_notes(scores))]) + "\n"
