"""What every report says in words, so that terminal, Markdown and HTML agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.report.numbers import exact, percent
from lora_probe.text import printable

if TYPE_CHECKING:
    from lora_probe.graph import ModuleGraph
    from lora_probe.patterns import Pattern
    from lora_probe.summary import Row, Summary

__all__ = ["TIMES", "counted", "facts", "flow", "observations", "outcome", "shown", "sites"]

TIMES = "\N{MULTIPLICATION SIGN}"
_NAME_LIMIT = 240
"""Characters of a name that are shown; only a hostile one has more."""
_UNNAMED = frozenset({"other", "unknown"})


def facts(graph: ModuleGraph) -> list[str]:
    """Return what was scanned, from the most to the least telling."""
    known = [
        graph.architecture,
        graph.model_type,
        f"{exact(graph.total_parameters)} parameters",
        graph.dtype or "",
        f"quantized: {graph.quantization}" if graph.quantization else "",
    ]
    return [fact for fact in known if fact]


def outcome(summary: Summary) -> str:
    """Return the one sentence that a person came for."""
    total = summary.total
    if not total.adaptable_sites:
        return (
            "LoRA fits nothing here: no layer of this model is one that PEFT can adapt "
            f"({exact(summary.total_parameters)} parameters looked at)."
        )
    every = "the one site" if total.adaptable_sites == 1 else f"all {sites(total.adaptable_sites)}"
    share = percent(total.lora_parameters, summary.total_parameters, digits=2)
    return (
        f"LoRA at rank {summary.rank} on {every} that it fits would add "
        f"{exact(total.lora_parameters)} parameters, {share} of the model."
    )


def observations(graph: ModuleGraph, summary: Summary) -> list[str]:
    """Return the notes of the scan, and what the grouping itself shows."""
    notes = [note.message for note in graph.notes]
    unnamed = sum(
        total.sites for (tower, block), total in summary.blocks.items() if _UNNAMED & {tower, block}
    )
    if unnamed:
        notes.append(f"{sites(unnamed)} of no standard role, named after the weight")
    return notes


def flow(row: Row) -> str:
    """Return the shape of the row's sites: ``14336 → 4096``, with the experts in front."""
    experts = f"{exact(row.experts)} {TIMES} " if row.experts > 1 else ""
    return f"{experts}{exact(row.in_features)} → {exact(row.out_features)}"


def counted(pattern: Pattern) -> str:
    """Return a pattern and how many paths it stands for, where that is more than one."""
    times = f" {TIMES}{exact(len(pattern))}" if len(pattern) > 1 else ""
    return f"{shown(str(pattern))}{times}"


def shown(text: str) -> str:
    """Return text from a model as every report shows it: no control characters, no endless names."""
    return printable(text, limit=_NAME_LIMIT)


def sites(count: int) -> str:
    """Return a number of sites in words."""
    return "1 site" if count == 1 else f"{exact(count)} sites"
