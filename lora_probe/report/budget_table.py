"""A budget on a terminal: each target set with what PEFT is told and the cost of its ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lora_probe.report.budget_split import split_lines
from lora_probe.report.budget_wording import (
    DIGITS,
    budget_facts,
    budget_notes,
    set_text,
    unfit_text,
    verdict,
)
from lora_probe.report.numbers import exact, file_size, percent
from lora_probe.report.table import Hanging
from lora_probe.report.wording import TIMES, shown
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

    from lora_probe.budgeting.records import Budget, Row, TargetSet

__all__ = ["BudgetTable"]

_GAP = 3
_INDENT = 2
_TITLES = ("r", "parameters", "share", "adapter")


class BudgetTable:
    """One budget as a rich renderable: heading, a table a set, outcome and notes."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def __rich_console__(self, _console: Console, _options: ConsoleOptions) -> RenderResult:
        """Yield the parts; the numbers of all sets stand below each other."""
        budget = self._budget
        yield Text(shown(budget.model), style="bold")
        yield Text(" · ".join(map(shown, budget_facts(budget))))
        yield Text(f"source: {shown(budget.source)}", style="dim")
        titles = (*_TITLES, "left over") if budget.limit else _TITLES
        widths = _widths([titles, *(_cells(row, budget) for row in budget.rows)])
        if budget.rows:
            yield ""
            yield _grid([titles], widths, style="dim")
        for chosen in budget.sets:
            yield ""
            yield from self._set(chosen, widths)
        yield ""
        yield Text(printable(verdict(budget)), style="bold" if budget.rows else "bold yellow")
        for note in budget_notes(budget):
            yield Hanging("note: ", printable(note))

    def _set(self, chosen: TargetSet, widths: Sequence[int]) -> RenderResult:
        budget = self._budget
        yield Text(shown(chosen.targets), style="bold")
        yield Padding(Text(printable(set_text(chosen)), style="dim"), (0, 0, 0, _INDENT))
        rows = [row for row in budget.rows if row.targets == chosen.targets]
        if rows:
            yield _grid([_cells(row, budget) for row in rows], widths)
        for unfit in budget.unfit:
            if unfit.targets == chosen.targets:
                yield Padding(Text(unfit_text(unfit, budget), style="yellow"), (0, 0, 0, _INDENT))
        if rows and budget.parts:
            yield _split(budget, chosen.targets, rows)


def _cells(row: Row, budget: Budget) -> tuple[str, ...]:
    cells = (
        str(row.rank),
        exact(row.trainable_parameters),
        percent(row.trainable_parameters, budget.total_parameters, digits=DIGITS),
        file_size(row.adapter_bytes),
    )
    return cells if row.left_over is None else (*cells, exact(row.left_over))


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(cell_len, cells)) for cells in zip(*rows, strict=True)]


def _grid(rows: Sequence[Sequence[str]], widths: Sequence[int], *, style: str = "") -> Padding:
    table = Table.grid(padding=(0, _GAP, 0, 0))
    for width in widths:
        table.add_column(min_width=width, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row, style=style)
    return Padding(table, (0, 0, 0, _INDENT))


def _split(budget: Budget, targets: str, rows: Sequence[Row]) -> Padding:
    """Return the parts of one set: a line a role, and equal layers on one line."""
    table = Table.grid(padding=(0, _GAP, 0, 0))
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for _ in range(len(rows) + 1):
        table.add_column(justify="right", no_wrap=True)
    table.add_row("", "", "sites", *(f"r={row.rank}" for row in rows), style="dim")
    for line in split_lines(budget, targets):
        layers = (
            f"layer {line.layers}" + (f" {TIMES} each" if "{" in line.layers else "") if line.layers else ""
        )
        table.add_row(line.name, Text(layers, style="dim"), exact(line.sites), *map(exact, line.parameters))
    return Padding(table, (0, 0, 0, _INDENT))
