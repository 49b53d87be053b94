"""A pilot as Markdown, for an issue, a model card or a lab book."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.report.markdown import code, line, plain
from lora_probe.report.pilot_command import pilot_command
from lora_probe.report.pilot_figures import forest
from lora_probe.report.pilot_wording import (
    adapter_config,
    arm_cells,
    dropped_text,
    failure_text,
    how,
    interval,
    pilot_facts,
    row_notes,
    signed,
    titles,
    to_use,
    use_text,
    warnings,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.piloting.outcome import Analysis

__all__ = ["pilot_markdown"]


def pilot_markdown(analysis: Analysis) -> str:
    """Return verdict, warnings, all arms, differences, what was dropped or failed, and what to use."""
    return "\n".join(_lines(analysis)) + "\n"


def _lines(analysis: Analysis) -> Iterator[str]:
    plan = analysis.plan
    yield from (f"## LoRA pilot: {code(plan.model.model)}", "")
    yield from (" · ".join(map(plain, pilot_facts(plan))), "")
    yield from (f"**{plain(analysis.verdict.sentence)}**", "")
    said = [f"- {plain(warning)}" for warning in warnings(analysis)]
    yield from [*said, ""] if said else []
    yield line(["", "set", *titles(analysis), "status"])
    yield line(["--:", ":--", *("--:" for _ in titles(analysis)), ":--"])
    for row in analysis.leaderboard:
        place, name, *cells = arm_cells(row, analysis)
        yield line([place, code(name), *map(plain, cells)])
    yield ""
    differences = forest(analysis)
    if differences:
        yield line([f"worse than {code(differences.best)} by", "difference", "interval", "so it is"])
        yield line([":--", "--:", ":--", ":--"])
        for each in differences.rows:
            yield line(
                [code(each.candidate), signed(each.difference), plain(interval(each)), plain(each.relation)]
            )
        yield ""
    yield from (f"- {plain(note)}" for note in row_notes(analysis))
    yield from (f"- dropped: {plain(dropped_text(each))}" for each in analysis.dropped)
    yield from (f"- failed: {plain(failure_text(each))}" for each in analysis.failures)
    for name, paths in analysis.dead_adapters.items():
        yield f"- no gradient: {code(name)}: {', '.join(map(code, paths))}"
    yield from (f"- {plain(sentence)}" for sentence in how(analysis))
    yield ""
    winner = to_use(analysis)
    if winner:
        yield from (f"To use {code(winner.name)}: {plain(use_text(analysis))}", "")
        yield from ("```json", adapter_config(winner, plan).rstrip("\n"), "```", "")
    yield f"Made with {code(pilot_command(plan))}"
