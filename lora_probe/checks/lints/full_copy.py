"""Modules that are trained in full beside the adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case

_LIKE_THE_ADAPTER = 1


def _examine(case: Case) -> Iterator[Hit]:
    if case.prediction is None:
        return
    copies = [copy.path for copy in case.prediction.saved if not copy.tied]
    elements = sum(
        site.in_features * site.out_features * site.experts
        for site in case.graph.sites
        if any(site.path == path or site.path.startswith(f"{path}.") for path in copies)
    )
    low_rank = sum(adapter.site.lora_parameters(adapter.rank) for adapter in case.adapters if adapter.site)
    if elements <= _LIKE_THE_ADAPTER * low_rank:
        return
    yield Hit(
        message=f"modules_to_save trains {elements:,} parameters in full, more than all low-rank factors "
        f"together ({low_rank:,})",
        paths=tuple(copies),
        fix="for a few new tokens use trainable_token_indices; for the rest, adapt the module at low rank",
    )


RULE = Rule(
    name="full-copy",
    severity=Severity.WARNING,
    happens="The adapter's file and the optimizer's memory are mostly full copies of embeddings or heads, "
    "and servers refuse the adapter.",
    why="modules_to_save copies whole modules and trains every element.",
    fix="Use trainable_token_indices for new tokens, or name the module in target_modules.",
    sources=("vllm-project/vllm#9280", "huggingface/peft#2864"),
    examine=_examine,
)
