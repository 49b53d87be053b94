"""A budget as HTML: a fragment for notebooks, and a page to send to a colleague."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_probe._version import __version__
from lora_probe.budgeting.records import By
from lora_probe.report.budget_charts import curve_chart, heat_strips
from lora_probe.report.budget_figures import layer_heat, rank_curves
from lora_probe.report.budget_split import split_lines
from lora_probe.report.budget_wording import (
    DIGITS,
    budget_facts,
    budget_notes,
    command,
    limit_text,
    peft_call,
    set_text,
    unfit_text,
    verdict,
)
from lora_probe.report.numbers import percent
from lora_probe.report.templating import environment

if TYPE_CHECKING:
    from lora_probe.budgeting.records import Budget

__all__ = ["budget_fragment", "budget_page"]


def budget_fragment(budget: Budget) -> str:
    """Return a ``<div>`` with the outcome, the table and the notes, in the colours of the page around it."""
    return environment().get_template("budget.html.j2").render(_context(budget))


def budget_page(budget: Budget) -> str:
    """Return a document without scripts or links: outcome, table, plots, what to give PEFT, the command.

    Where the parameters go is drawn for a budget that was split by role and layer.
    """
    shown = {row.targets for row in budget.rows}
    heat = layer_heat(budget) if budget.by is By.BOTH else None
    return (
        environment()
        .get_template("budget_page.html.j2")
        .render(
            _context(budget),
            chart=curve_chart(rank_curves(budget)),
            heat=heat_strips(heat) if heat else None,
            command=command(budget),
            fitting=[chosen for chosen in budget.sets if chosen.targets in shown],
            ranks_of=lambda chosen: [row.rank for row in budget.rows if row.targets == chosen.targets],
            lines_of=lambda chosen: split_lines(budget, chosen.targets),
            call=lambda chosen: peft_call(chosen, budget),
            versions={**budget.versions, "lora-probe": __version__},
        )
    )


def _context(budget: Budget) -> dict[str, Any]:
    """Return what the templates may name."""
    highest = max((row.trainable_parameters for row in budget.rows), default=0)
    return {
        "budget": budget,
        "facts": budget_facts(budget),
        "verdict": verdict(budget),
        "limit": limit_text(budget),
        "notes": budget_notes(budget),
        "set_text": set_text,
        "unfit_text": lambda unfit: unfit_text(unfit, budget),
        "share": lambda count: percent(count, budget.total_parameters, digits=DIGITS),
        "filled": lambda count: round(100 * count / highest, 2) if highest else 0,
    }
