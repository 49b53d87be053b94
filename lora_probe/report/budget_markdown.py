"""A budget as Markdown, for an issue, a model card or a lab book."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.report.budget_split import split_lines
from lora_probe.report.budget_wording import (
    DIGITS,
    budget_facts,
    budget_notes,
    command,
    set_text,
    unfit_text,
    verdict,
)
from lora_probe.report.markdown import code, line, plain
from lora_probe.report.numbers import exact, file_size, percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.budgeting.records import Budget, TargetSet

__all__ = ["budget_markdown"]


def budget_markdown(budget: Budget) -> str:
    """Return the outcome, a table of all rows, what PEFT is told for each set, the split and the notes."""
    lines = [
        f"## LoRA budget: {code(budget.model)}",
        "",
        " · ".join(map(plain, budget_facts(budget))),
        "",
        f"Source: {code(budget.source)}",
        "",
        f"**{plain(verdict(budget))}**",
        "",
    ]
    if budget.rows:
        lines += [*_rows(budget), ""]
    lines += [f"- {code(chosen.targets)}: {plain(set_text(chosen))}" for chosen in budget.sets]
    lines += [f"- {plain(unfit_text(unfit, budget))}" for unfit in budget.unfit]
    lines += [f"- {plain(note)}" for note in budget_notes(budget)]
    for chosen in budget.sets if budget.parts else ():
        lines += _parts(budget, chosen)
    return "\n".join([*lines, "", f"Made with {code(command(budget))}"]) + "\n"


def _rows(budget: Budget) -> Iterator[str]:
    limited = budget.limit is not None
    yield line(["targets", "r", "parameters", "share", "adapter file", *(["left over"] if limited else [])])
    yield line([":--", "--:", "--:", "--:", "--:", *(["--:"] if limited else [])])
    for row in budget.rows:
        cells = [
            code(row.targets),
            str(row.rank),
            exact(row.trainable_parameters),
            plain(percent(row.trainable_parameters, budget.total_parameters, digits=DIGITS)),
            f"{file_size(row.adapter_bytes)} ({exact(row.adapter_bytes)} bytes)",
        ]
        yield line(cells if row.left_over is None else [*cells, exact(row.left_over)])


def _parts(budget: Budget, chosen: TargetSet) -> Iterator[str]:
    ranks = [row.rank for row in budget.rows if row.targets == chosen.targets]
    if not ranks:
        return
    yield from ("", f"### {code(chosen.targets)}", "")
    yield line(["role", "each of layers", "sites", *(f"r={rank}" for rank in ranks)])
    yield line([":--", ":--", "--:", *("--:" for _ in ranks)])
    for each in split_lines(budget, chosen.targets):
        name = code(each.name) if each.name else ""
        yield line([name, plain(each.layers), exact(each.sites), *map(exact, each.parameters)])
