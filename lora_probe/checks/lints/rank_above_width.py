"""A rank that is no lower than what the layer can have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case


def _examine(case: Case) -> Iterator[Hit]:
    wide = [
        adapter
        for adapter in case.adapters
        if adapter.site and adapter.rank > min(adapter.site.in_features, adapter.site.out_features)
    ]
    if wide:
        narrowest = min(min(a.site.in_features, a.site.out_features) for a in wide if a.site)
        yield Hit(
            message=f"rank {wide[0].rank} is more than {len(wide)} of the adapted layers can have: "
            f"the narrowest is {narrowest} wide",
            paths=tuple(adapter.key for adapter in wide),
            fix=f"lower the rank, for these layers with rank_pattern, to at most {narrowest}",
        )


RULE = Rule(
    name="rank-above-width",
    severity=Severity.INFO,
    happens="Some factors are larger than the matrix that they change, and say nothing that a smaller rank "
    "could not.",
    why="A product of rank r has at most the rank of the narrower side: routers, small heads, and key and "
    "value projections with few heads are narrow.",
    fix="Lower the rank, or set it for the narrow layers with rank_pattern.",
    sources=("Hu et al. 2021, LoRA, section 4", "unslothai/unsloth#2097"),
    examine=_examine,
)
