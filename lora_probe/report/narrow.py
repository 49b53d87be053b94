"""Rows under the path that they share, for a terminal that is too narrow for whole paths."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lora_probe.report.numbers import short
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
_PART, _NAME = 0, 1


class NarrowTable:
    """The rows of a summary grouped by block and by the path above their last segment."""

    def __init__(self, summary: Summary) -> None:
        self._summary = summary

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield headings and rows; the columns keep their widths throughout."""
        summary = self._summary
        body = [_cells(row) for row in summary.rows]
        columns = _Columns([_TITLES, *body, *_totals(summary)], width=options.max_width - _INDENT)
        yield columns.table([_TITLES], style="bold")
        yield columns.rule()
        for tower, total in summary.towers.items():
            rows = [row for row in summary.rows if row.tower == tower]
            yield _heading(tower, total, several=len(summary.towers) > 1)
            for (block, above), members in _families(rows).items():
                yield _Family(block, above)
                yield columns.table([_cells(row) for row in members])
        yield columns.rule()
        yield columns.table(_totals(summary), style="bold")


class _Family:
    """A block and the path below which its rows stand, broken after dots where it is too long."""

    def __init__(self, block: str, above: Pattern) -> None:
        self._block = shown(block)
        self._segments = re.split(r"(?<=\.)", counted(above))

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the block in front of the lines of the path."""
        line = Text.assemble("  ", (self._block, "cyan"), "  ")
        for segment in self._segments:
            if cell_len(line.plain + segment) > options.max_width:
                yield line
                line = Text("    ")
            line.append(segment, style="dim")
        yield line


class _Columns:
    """Columns of fixed width, indented below their headings."""

    def __init__(self, rows: Sequence[Sequence[str]], *, width: int) -> None:
        self._widths = [max(map(cell_len, cells)) for cells in zip(*rows, strict=True)]
        self._used = list(range(len(self._widths)))
        if self._width > width:
            self._used.remove(_PART)  # the name tells more, and the part is read off it
        self._widths[_NAME] -= min(max(self._width - width, 0), self._widths[_NAME] - len(_TITLES[_NAME]))

    @property
    def _width(self) -> int:
        return sum(self._widths[index] for index in self._used) + _GAP * (len(self._used) - 1)

    def rule(self) -> Text:
        return Text("─" * (self._width + _INDENT), style="dim")

    def table(self, rows: Iterable[Sequence[str]], *, style: str = "") -> Padding:
        table = Table.grid(padding=(0, _GAP, 0, 0))
        for index in self._used:
            right = index > _NAME
            table.add_column(width=self._widths[index], justify="right" if right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(row[index]) for index in self._used), style=style)
        return Padding(table, (0, 0, 0, _INDENT))


def _families(rows: Iterable[Row]) -> dict[tuple[str, Pattern], list[Row]]:
    """Return the rows of each block and parent, in the order of first sight."""
    families: defaultdict[tuple[str, Pattern], list[Row]] = defaultdict(list)
    for row in rows:
        families[row.block, row.pattern.split()[0]].append(row)
    return families


def _heading(tower: str, total: Total, *, several: bool) -> Text:
    heading = Text(shown(tower), style="bold")
    if several:
        lora = f", LoRA {short(total.lora_parameters)}" if total.adaptable_sites else ""
        heading.append(f"  {sites(total.sites)}, {short(total.parameters)}{lora}", style="not bold")
    return heading


def _cells(row: Row) -> tuple[str, ...]:
    name = row.pattern.split()[1]
    return (
        "" if row.part == str(name) else shown(row.part),
        counted(name),
        flow(row),
        "tied" if row.tied_to else short(row.total.parameters),
        short(row.total.lora_parameters) if row.adaptable else "—",
    )


def _totals(summary: Summary) -> list[tuple[str, ...]]:
    total = summary.total
    return [
        ("", "", sites(total.sites), short(total.parameters), short(total.lora_parameters)),
        ("", "", "other weights", short(summary.uncovered_parameters), ""),
        ("", "", "model", short(summary.total_parameters), ""),
    ]
