"""An adapter that is as large as a good part of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case


def _examine(case: Case) -> Iterator[Hit]:
    total = case.graph.total_parameters
    if not total or case.trainable_parameters < case.largest_share * total:
        return
    low_rank = sum(adapter.site.lora_parameters(adapter.rank) for adapter in case.adapters if adapter.site)
    copied = case.trainable_parameters - low_rank
    yield Hit(
        message=f"{case.trainable_parameters:,} parameters will be trained, "
        f"{case.trainable_parameters / total:.0%} of the model's {total:,}",
        fix="take modules_to_save out: full copies make up most of it"
        if copied > low_rank
        else "lower the rank, or name fewer layers: lora-probe budget shows what each costs",
    )


RULE = Rule(
    name="large-adapter",
    severity=Severity.WARNING,
    happens="The adapter is large: a fifth of the model or more (largest_share sets from where on).",
    why="The cost of an adapter is its rank times the widths it connects: high ranks, many small layers "
    "(experts most of all), vocabularies and full copies through modules_to_save add up.",
    fix="Lower the rank, name fewer layers, or train in full.",
    sources=("unslothai/unsloth#1093",),
    examine=_examine,
)
