"""The split of a budget as lines of a table: equal layers of one role share a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_probe.patterns import index_text
from lora_probe.report.wording import shown

if TYPE_CHECKING:
    from lora_probe.budgeting.records import Budget, Part

__all__ = ["SplitLine", "split_lines"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitLine:
    """One role, one or more equal layers, or both; sizes in elements."""

    name: str
    layers: str
    """The layers that this holds for, each: ``{0…31}``; empty where layers were not asked for."""
    sites: int
    """Of each layer, or of the role."""
    parameters: tuple[int, ...]
    """For each of the set's ranks, in order: of each layer, or of the role."""


def split_lines(budget: Budget, targets: str) -> list[SplitLine]:
    """Return the lines of one set, in the order of the model."""
    sizes: dict[tuple[str | None, int | None], list[Part]] = {}
    for part in budget.parts:
        if part.targets == targets:
            sizes.setdefault((part.role, part.layer), []).append(part)
    equal: dict[tuple[str | None, bool, int, tuple[int, ...]], list[int]] = {}
    for (role, layer), parts in sizes.items():
        each = tuple(part.trainable_parameters for part in parts)
        layers = equal.setdefault((role, layer is None, parts[0].sites, each), [])
        layers += [] if layer is None else [layer]
    return [
        SplitLine(
            name=shown(role) if role is not None else "" if layers else "outside of layers",
            layers=index_text(sorted(layers)) if layers else "",
            sites=sites,
            parameters=each,
        )
        for (role, _, sites, each), layers in equal.items()
    ]
