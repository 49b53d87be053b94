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
from lora_probe.report.numbers import exact, file_size, percent, short
from lora_probe.report.table import Hanging
from lora_probe.report.wording import TIMES, shown
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

    from lora_probe.budgeting.records import Budget, Row, TargetSet
    from lora_probe.report.budget_split import SplitLine

__all__ = ["BudgetTable"]

_GAP = 3
_INDENT = 2
_LEAST_NAME = 12
"""Cells that names get at least; the rest of a longer one goes onto the next line."""
_MOST_RANKS = 16
"""Ranks that are shown beside each other, however wide the place is."""
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
            yield _Split(split_lines(budget, chosen.targets), [row.rank for row in rows])


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


class _Split:
    """The parts of one set: a line a role, equal layers on one line, and as many ranks beside as fit."""

    def __init__(self, lines: Sequence[SplitLine], ranks: Sequence[int]) -> None:
        self._lines = lines
        self._ranks = ranks

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield one table, or several below each other where there are too many ranks for one."""
        lines, room = self._lines, options.max_width - _INDENT
        number = exact
        names = max(cell_len(line.name) for line in lines) + max(cell_len(_layers(line)) for line in lines)
        if names + self._width(exact) + 3 * _GAP + len("sites") > room:
            number, names = short, min(names, _LEAST_NAME)
        left = room - names - len("sites") - 2 * _GAP
        most = min(max(left // (self._width(number) + _GAP), 1), _MOST_RANKS)
        for start in range(0, len(self._ranks), most):
            if start:
                yield ""
            yield self._table(slice(start, start + most), number)

    def _width(self, number: Callable[[int], str]) -> int:
        """Return the cells of the widest column of a rank."""
        sizes = (number(max(line.parameters)) for line in self._lines)
        return max(map(cell_len, (*sizes, f"r={max(self._ranks)}")))

    def _table(self, chosen: slice, number: Callable[[int], str]) -> Padding:
        table = Table.grid(padding=(0, _GAP, 0, 0))
        table.add_column(overflow="fold")
        table.add_column(overflow="fold")
        ranks = self._ranks[chosen]
        for _ in ("sites", *ranks):
            table.add_column(justify="right", no_wrap=True)
        table.add_row("", "", "sites", *(f"r={rank}" for rank in ranks), style="dim")
        for line in self._lines:
            sizes = map(number, line.parameters[chosen])
            table.add_row(Text(line.name), Text(_layers(line), style="dim"), exact(line.sites), *sizes)
        return Padding(table, (0, 0, 0, _INDENT))


def _layers(line: SplitLine) -> str:
    several = f" {TIMES} each" if "{" in line.layers else ""
    return f"layer {line.layers}{several}" if line.layers else ""
