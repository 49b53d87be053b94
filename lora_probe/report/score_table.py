"""Scores on a terminal: the roles, the one to adapt first on top, and what to make of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lora_probe.report.score_wording import TITLES, role_cells, role_name, score_facts, score_notes
from lora_probe.report.table import Hanging
from lora_probe.report.wording import shown
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from lora_probe.scoring.proposals import ProposedSet
    from lora_probe.scoring.records import Scores

__all__ = ["ScoreTable"]

_GAP, _INDENT = 2, 2


class ScoreTable:
    """Scores, and the sets that they propose, as a rich renderable."""

    def __init__(self, scores: Scores, proposals: Sequence[ProposedSet] = ()) -> None:
        self._scores, self._proposals = scores, proposals

    def __rich_console__(self, _console: Console, _options: ConsoleOptions) -> RenderResult:
        """Yield heading, table, proposals and notes."""
        scores = self._scores
        yield Text(shown(scores.model.model), style="bold")
        yield Text(" · ".join(map(shown, score_facts(scores))))
        yield ""
        yield _roles(scores)
        yield ""
        if self._proposals:
            yield Text("to try in a pilot:")
            for each in self._proposals:
                yield Hanging("  ", f"{shown(each.targets)}: {each.reason}")
            yield ""
        for note in score_notes(scores):
            yield Hanging("note: ", printable(note))


def _roles(scores: Scores) -> RenderableType:
    lines = [(shown(role_name(role)), *role_cells(role)) for role in scores.roles]
    table = Table.grid(padding=(0, _GAP, 0, 0))
    table.add_column(overflow="fold")
    for place in range(1, len(TITLES) + 1):  # where room is short, names are broken and no figures
        table.add_column(justify="right", min_width=max(cell_len(line[place]) for line in lines))
    table.add_row("role", *TITLES, style="dim")
    for line in lines:
        table.add_row(*map(Text, line))
    return Padding(table, (0, 0, 0, _INDENT))
