"""A pilot on a terminal: verdict, all arms, differences from the best one, and what went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lora_probe.report.pilot_figures import forest
from lora_probe.report.pilot_wording import (
    arm_cells,
    dropped_text,
    failure_text,
    interval,
    pilot_facts,
    row_notes,
    signed,
    titles,
    warnings,
)
from lora_probe.report.table import Hanging
from lora_probe.report.wording import shown
from lora_probe.text import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from lora_probe.piloting.outcome import Analysis

__all__ = ["PilotTable", "arms_table"]

_GAP = 2
_INDENT = 2


class PilotTable:
    """One analysis as a rich renderable; the verdict comes last, where a terminal's reader looks."""

    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis

    def __rich_console__(self, _console: Console, _options: ConsoleOptions) -> RenderResult:
        """Yield heading, table, differences, notes and verdict."""
        analysis = self._analysis
        yield Text(shown(analysis.plan.model.model), style="bold")
        yield Text(" · ".join(map(shown, pilot_facts(analysis.plan))))
        yield ""
        yield arms_table(analysis)
        differences = forest(analysis)
        if differences:
            yield ""
            yield Text(f"worse than {shown(differences.best)} by, in {differences.unit}:", style="dim")
            table = _grid(columns=("left", "right", "left", "left"))
            for row in differences.rows:
                relation = Text(row.relation, style="green" if row.relation == "equivalent" else "")
                # As Text, of which rich reads no markup: a set may be called re:.*[qv]_proj.
                cells = (shown(row.candidate), signed(row.difference), interval(row))
                table.add_row(*map(Text, cells), relation)
            yield Padding(table, (0, 0, 0, _INDENT))
        yield ""
        for note in row_notes(analysis):
            yield Hanging("note: ", printable(note))
        for each in analysis.dropped:
            yield Hanging("dropped: ", printable(dropped_text(each)))
        for failed in analysis.failures:
            yield Hanging("failed: ", printable(failure_text(failed)))
        for name, paths in analysis.dead_adapters.items():
            yield Hanging("no gradient: ", f"{shown(name)}: {', '.join(map(shown, paths))}")
        for warning in warnings(analysis):
            yield Hanging("note: ", printable(warning))
        yield Text(
            printable(analysis.verdict.sentence),
            style="bold" if analysis.verdict.recommended else "bold yellow",
        )
        if not analysis.complete:
            yield Text("The pilot is not complete: this is what was measured so far.", style="yellow")


def arms_table(analysis: Analysis) -> RenderableType:
    """Return one line an arm, best first; losses are nats per token on the test part."""
    lines = [arm_cells(row, analysis) for row in analysis.leaderboard]
    table = _grid(columns=("right", "left", *("right" for _ in titles(analysis)), "left"))
    for place, column in enumerate(table.columns):
        if place != 1:  # where room is short, names are broken and no figures
            column.min_width = max(cell_len(line[place]) for line in lines)
    table.add_row("", "set", *titles(analysis), "status", style="dim")
    for number, name, *cells in lines:
        chosen = name == analysis.verdict.recommended
        table.add_row(*map(Text, (number, shown(name), *cells)), style="bold" if chosen else "")
    return Padding(table, (0, 0, 0, _INDENT))


def _grid(columns: tuple[str, ...]) -> Table:
    table = Table.grid(padding=(0, _GAP, 0, 0))
    for justify in columns:
        table.add_column(justify="right" if justify == "right" else "left", overflow="fold")
    return table
