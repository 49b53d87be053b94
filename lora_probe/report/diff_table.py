"""A comparison on a terminal: what differs by role, then by weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from lora_probe.comparing.records import Change
from lora_probe.report.numbers import exact
from lora_probe.report.paths import DottedPath
from lora_probe.report.wording import TIMES, counted, shown

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from lora_probe.comparing.records import Difference, Facts, Side, Total

__all__ = ["DiffTable"]

_SIGNS = {Change.REMOVED: ("-", "red"), Change.ADDED: ("+", "green"), Change.CHANGED: ("~", "yellow")}


class DiffTable:
    """One comparison as a rich renderable: both sides, the roles, the weights, and the outcome."""

    def __init__(self, difference: Difference) -> None:
        self._difference = difference

    def __rich_console__(self, _console: Console, _options: ConsoleOptions) -> RenderResult:
        """Yield the parts; of two equal sides, only what they are and that they are equal."""
        difference = self._difference
        for sign, side in (("-", difference.first), ("+", difference.second)):
            yield Text.assemble((f"{sign} ", "dim"), (shown(side.label), "bold"), f"  {_facts(side)}")
        yield ""
        if not difference.is_empty:
            if difference.roles:
                yield _roles(difference)
                yield ""
            yield _sites(difference)
            yield ""
        yield Text(outcome(difference))


def outcome(difference: Difference) -> str:
    """Return the comparison in one sentence."""
    trained = difference.first.targets is not None
    what = "train" if trained else "have"
    noun = "adapters" if trained else "weights"
    if difference.is_empty:
        return f"Equal: both {what} the same {exact(difference.same)} {noun}."
    differ = dict.fromkeys(Change, 0)
    for row in difference.sites:
        differ[row.change] += len(row.pattern)
    counts = ", ".join(f"{exact(count)} {change}" for change, count in differ.items() if count)
    return f"{exact(difference.same)} {noun} are the same; {counts}."


def _facts(side: Side) -> str:
    if side.targets is None:
        return f"{shown(side.architecture)} · {exact(side.sites)} sites · {exact(side.parameters)} parameters"
    return f"{shown(side.model)} · {exact(side.sites)} sites · {exact(side.parameters)} trained"


def _table() -> Table:
    return Table(box=box.SIMPLE, show_edge=False, pad_edge=False, padding=(0, 1), collapse_padding=True)


def _roles(difference: Difference) -> Table:
    table = _table()
    table.add_column("role", overflow="fold")
    for title in ("sites -", "sites +", "parameters -", "parameters +"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in difference.roles:
        table.add_row(
            Text(shown(row.role)), *_numbers(row.first, row.second, "sites"),
            *_numbers(row.first, row.second, "parameters"),
        )  # fmt: skip
    return table


def _numbers(first: Total, second: Total, field: str) -> tuple[Text, Text]:
    values = getattr(first, field), getattr(second, field)
    style = "" if values[0] != values[1] else "dim"
    one, other = (Text(exact(value) if value else "—", style=style) for value in values)
    return one, other


def _sites(difference: Difference) -> Table:
    table = _table()
    table.add_column("", no_wrap=True)
    table.add_column("where", overflow="fold")
    table.add_column("what", overflow="fold")
    for row in difference.sites:
        sign, style = _SIGNS[row.change]
        path = DottedPath(counted(row.pattern))
        table.add_row(Text(sign, style=style), path, Text(_change(row.first, row.second)))
    return table


def _change(first: Facts | None, second: Facts | None) -> str:
    """Return the facts of one side, or those that changed from one side to the other."""
    if first is None or second is None:
        return ", ".join(_words(first or second).values())
    one, other = _words(first), _words(second)
    both = ((one.get(key, "—"), other.get(key, "—")) for key in {**one, **other})
    changed = [f"{before} ⇒ {after}" for before, after in both if before != after]
    return ", ".join(changed) or f"{exact(first.parameters)} ⇒ {exact(second.parameters)} parameters"


def _words(facts: Facts | None) -> dict[str, str]:
    if facts is None:
        return {}
    words = {"role": shown(facts.role), "kind": facts.kind.replace("_", " "), "sizes": _sizes(facts)}
    if facts.tied:
        words["tied"] = "tied"
    if facts.rank is not None:
        words["rank"] = f"r={facts.rank}"
    return words


def _sizes(facts: Facts) -> str:
    if facts.kind == "parameter":
        return f" {TIMES} ".join(map(exact, facts.sizes))
    inner, outer, *experts = facts.sizes
    start = f"{exact(experts[0])} {TIMES} " if experts else ""
    return f"{start}{exact(inner)} → {exact(outer)}"
