"""One line a row, each with its whole path: the table of a terminal that has the room, and of a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from lora_probe.report.numbers import exact, percent, short
from lora_probe.report.paths import abridged, shared_start
from lora_probe.report.wording import TIMES, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import RenderableType

    from lora_probe.summary import Row, Summary, Total

__all__ = ["wide_tables"]


def wide_tables(summary: Summary) -> Iterator[Table]:
    """Yield the table with ever fewer details, starting with every digit of every number.

    In the last one a tower's line says how the paths of its layers begin, and theirs go on from there.
    """
    yield _table(summary, _columns(summary, exact, _whole_paths()))
    columns = _columns(summary, short, _whole_paths())
    yield _table(summary, columns)
    yield _table(summary, _without_details(columns))
    yield _table(summary, _without_details(_columns(summary, short, _short_paths(summary))))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Column:
    """What one column shows for a row, for a tower and for the whole model."""

    title: str
    row: Callable[[Row], RenderableType]
    tower: Callable[[str, Total], RenderableType] = lambda _tower, _total: ""
    footer: str = ""
    justify: Literal["left", "right"] = "right"
    detail: bool = False
    """Whether a narrower terminal does without it."""
    style: str = ""


def _without_details(columns: list[_Column]) -> list[_Column]:
    return [column for column in columns if not column.detail]


def _table(summary: Summary, columns: list[_Column]) -> Table:
    """Return the rows of each tower under its name, and a footer in which everything adds up."""
    table = Table(
        box=box.SIMPLE,
        show_edge=False,
        show_footer=True,
        pad_edge=False,
        padding=(0, 1),
        collapse_padding=True,
        border_style="dim",
    )
    for column in columns:
        table.add_column(
            column.title, column.footer, justify=column.justify, no_wrap=True, style=column.style
        )
    for tower, total in summary.towers.items():
        rows = [row for row in summary.rows if row.tower == tower]
        table.add_row(*(column.tower(tower, total) for column in columns), style="bold")
        for row in rows:
            last = row is rows[-1] and len(summary.towers) > 1
            table.add_row(*(column.row(row) for column in columns), end_section=last)
    return table


def _columns(summary: Summary, number: Callable[[int], str], where: _Column) -> list[_Column]:
    whole, shape = summary.total_parameters, _shapes(summary)
    several = len(summary.towers) > 1
    sums = (summary.total.parameters, summary.uncovered_parameters, whole)

    def subtotal(value: Callable[[Total], str]) -> Callable[[str, Total], str]:
        return lambda _tower, total: value(total) if several else ""

    return [
        _Column(
            title="role",
            row=lambda row: Text(f"  {shown(row.role)}", style="cyan"),
            tower=lambda tower, _total: shown(tower),
            footer="sites\nother weights\nmodel",
            justify="left",
        ),
        where,
        _Column(
            title="kind",
            row=lambda row: row.kind.value.replace("_", " "),
            justify="left",
            detail=True,
            style="dim",
        ),
        _Column(
            title="sites",
            row=lambda row: exact(row.total.sites),
            tower=subtotal(lambda total: exact(total.sites)),
            footer=exact(summary.total.sites),
        ),
        _Column(title="in → out", row=shape),
        _Column(
            title="parameters" if number is exact else "params",
            row=lambda row: Text("tied", style="dim") if row.tied_to else number(row.total.parameters),
            tower=subtotal(lambda total: number(total.parameters)),
            footer="\n".join(map(number, sums)),
        ),
        _Column(
            title="share",
            row=lambda row: "" if row.tied_to else percent(row.total.parameters, whole),
            tower=subtotal(lambda total: percent(total.parameters, whole)),
            footer="\n".join(percent(part, whole) for part in sums),
            detail=True,
            style="dim",
        ),
        _Column(
            title=f"LoRA r={summary.rank}",
            row=lambda row: number(row.total.lora_parameters) if row.adaptable else Text("—", style="dim"),
            tower=subtotal(lambda total: number(total.lora_parameters)),
            footer=number(summary.total.lora_parameters),
        ),
    ]


def _whole_paths() -> _Column:
    def where(row: Row) -> RenderableType:
        tied = [Text(f"tied to {shown(str(pattern))}", style="dim") for pattern in row.tied_to]
        path = _path(shown(str(row.pattern)))
        return Group(path, *tied) if tied else path

    return _Column(title="where", row=where, justify="left")


def _short_paths(summary: Summary) -> _Column:
    starts = {
        tower: shared_start(row.pattern for row in summary.rows if row.tower == tower)
        for tower in summary.towers
    }

    def where(row: Row) -> Text:
        path, start = abridged(row.pattern), shown(starts[row.tower])
        return _path(f"…{path.removeprefix(start)}" if start and path.startswith(start) else path)

    return _Column(
        title="where",
        row=where,
        tower=lambda tower, _total: Text(f"{shown(starts[tower])}…", "dim") if starts[tower] else "",
        justify="left",
    )


def _path(text: str) -> Text:
    above, dot, name = text.rpartition(".")
    return Text.assemble((above + dot, "dim"), name)


def _shapes(summary: Summary) -> Callable[[Row], Text]:
    """Return how to write a row's shape so that the arrows of all rows stand below each other."""
    inner = max((len(exact(row.in_features)) for row in summary.rows), default=0)
    outer = max((len(exact(row.out_features)) for row in summary.rows), default=0)

    def shape(row: Row) -> Text:
        experts = f"{exact(row.experts)} {TIMES} " if row.experts > 1 else ""
        sizes = f"{exact(row.in_features):>{inner}} → {exact(row.out_features):<{outer}}"
        return Text.assemble((experts, "dim"), sizes)

    return shape
