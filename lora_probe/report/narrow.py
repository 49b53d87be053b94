"""Rows under the path that they share, for a terminal that is too narrow for whole paths."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lora_probe.report.numbers import short
from lora_probe.report.paths import broken, counted_abridged
from lora_probe.report.wording import counted, flow, shown, sites

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

    from lora_probe.patterns import Pattern
    from lora_probe.summary import Row, Summary, Total

__all__ = ["NarrowTable"]

_GAP = 2
_INDENT = 4
_TITLES = ("part", "name", "in → out", "params", "LoRA")
_PART, _NAME, _FLOW, _NUMBERS = 0, 1, 2, 3
_ROOM_FOR_SHAPES = 56
"""Cells below which a terminal shows no shapes."""


class NarrowTable:
    """The rows of a summary grouped by block and by the path above their last segment."""

    def __init__(self, summary: Summary) -> None:
        self._summary = summary

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield headings and rows; the columns keep their widths throughout."""
        summary = self._summary
        families = {
            tower: _families([row for row in summary.rows if row.tower == tower]) for tower in summary.towers
        }
        body = [
            _cells(row, name)
            for of_tower in families.values()
            for members in of_tower.values()
            for row, name in members
        ]
        columns = _Columns([_TITLES, *body], _totals(summary), width=options.max_width - _INDENT)
        yield columns.table([_TITLES], style="bold")
        yield columns.rule()
        for tower, total in summary.towers.items():
            yield _heading(tower, total, several=len(summary.towers) > 1)
            for (block, above), members in families[tower].items():
                yield _Family(block, above)
                yield columns.table([_cells(row, name) for row, name in members])
        yield columns.rule()
        yield columns.totals(style="bold")


class _Family:
    """A block and the path below which its rows stand, shortened or broken where it is too long."""

    def __init__(self, block: str, above: Pattern) -> None:
        self._block = shown(block)
        self._above = above

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the block in front of the lines of the path."""
        start = Text.assemble("  ", (self._block, "cyan"), "  ")
        path, left = counted(self._above), options.max_width - cell_len(start.plain)
        if cell_len(path) > left:
            path = counted_abridged(self._above)
        first, *rest = broken(path, options.max_width - _INDENT, first=left)
        yield start.append(first, style="dim")
        for line in rest:
            yield Text(" " * _INDENT).append(line, style="dim")


class _Columns:
    """Columns of fixed width, indented below their headings."""

    def __init__(self, rows: Sequence[Sequence[str]], totals: Sequence[Sequence[str]], *, width: int) -> None:
        self._totals = totals
        self._widths = [max(map(cell_len, cells)) for cells in zip(*rows, strict=True)]
        for index, total in enumerate(zip(*totals, strict=True), _FLOW):
            if index >= _NUMBERS:
                self._widths[index] = max(self._widths[index], *map(cell_len, total))
        self._used = list(range(len(self._widths)))
        if self._width > width:
            self._used.remove(_PART)  # the name tells more, and the part is read off it
        if self._width > width and width + _INDENT < _ROOM_FOR_SHAPES:
            self._used.remove(_FLOW)
        longest = max(cell_len(name) for name, *_ in totals)
        self._widths[_NAME] += max(longest - self._before_numbers, 0)
        self._widths[_NAME] -= min(max(self._width - width, 0), self._widths[_NAME] - len(_TITLES[_NAME]))
        self._rule = min(self._width, width) + _INDENT

    @property
    def _width(self) -> int:
        return sum(self._widths[index] for index in self._used) + _GAP * (len(self._used) - 1)

    @property
    def _before_numbers(self) -> int:
        names = [index for index in self._used if index < _NUMBERS]
        return sum(self._widths[index] for index in names) + _GAP * (len(names) - 1)

    def rule(self) -> Text:
        return Text("─" * self._rule, style="dim")

    def table(self, rows: Iterable[Sequence[str]], *, style: str = "") -> Padding:
        table = Table.grid(padding=(0, _GAP, 0, 0))
        for index in self._used:
            right = index > _NAME
            table.add_column(width=self._widths[index], justify="right" if right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(row[index]) for index in self._used), style=style)
        return Padding(table, (0, 0, 0, _INDENT))

    def totals(self, *, style: str) -> Padding:
        """Return the totals, named in the place of all that is no number."""
        table = Table.grid(padding=(0, _GAP, 0, 0))
        table.add_column(width=self._before_numbers, justify="right")
        for width in self._widths[_NUMBERS:]:
            table.add_column(width=width, justify="right", overflow="fold")
        for row in self._totals:
            table.add_row(*map(Text, row), style=style)
        return Padding(table, (0, 0, 0, _INDENT))


def _families(rows: Sequence[Row]) -> dict[tuple[str, Pattern], list[tuple[Row, str]]]:
    """Return the rows of each block and parent, in the order of first sight, with their names below it.

    A parent of one row only, as around each layer that is wrapped (``q_proj.linear``), is part of the name,
    unless it has no neighbours.
    """
    parents = [row.pattern.split() for row in rows]
    members = Counter((row.block, above) for row, (above, _) in zip(rows, parents, strict=True))
    around = Counter((row.block, above.split()[0]) for row, (above, _) in zip(rows, parents, strict=True))
    families: defaultdict[tuple[str, Pattern], list[tuple[Row, str]]] = defaultdict(list)
    for row, (above, last) in zip(rows, parents, strict=True):
        place, name = above, counted(last)
        further, wrapper = above.split()
        if members[row.block, above] == 1 < around[row.block, further] and further.pieces:
            place, name = further, f"{shown(str(wrapper))}.{name}"
        families[row.block, place].append((row, name))
    return families


def _heading(tower: str, total: Total, *, several: bool) -> Text:
    heading = Text(shown(tower), style="bold")
    if several:
        lora = f", LoRA {short(total.lora_parameters)}" if total.adaptable_sites else ""
        heading.append(f"  {sites(total.sites)}, {short(total.parameters)}{lora}", style="not bold")
    return heading


def _cells(row: Row, name: str) -> tuple[str, ...]:
    return (
        "" if row.part == name else shown(row.part),
        name,
        flow(row),
        "tied" if row.tied_to else short(row.total.parameters),
        short(row.total.lora_parameters) if row.adaptable else "—",
    )


def _totals(summary: Summary) -> list[tuple[str, str, str]]:
    """Return each total's name, parameters and LoRA parameters."""
    total = summary.total
    return [
        (sites(total.sites), short(total.parameters), short(total.lora_parameters)),
        ("other weights", short(summary.uncovered_parameters), ""),
        ("model", short(summary.total_parameters), ""),
    ]
