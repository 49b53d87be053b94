"""A convolution among the adapted layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit, Rule
from lora_probe.graph import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case


def _examine(case: Case) -> Iterator[Hit]:
    if case.refusal and case.refusal.rule == "conv-groups":
        yield Hit(
            severity=Severity.ERROR,
            message=f"PEFT refuses this: {case.refusal.reason}",
            paths=case.refusal.where,
            fix="leave the convolution out, or take a rank that its groups divide",
        )
    convolutions = [adapter for adapter in case.adapters if adapter.site and adapter.site.kind is Kind.CONV]
    if convolutions:
        names = dict.fromkeys(adapter.module.rpartition(".")[2] for adapter in convolutions)
        get = "convolutions get" if len(convolutions) > 1 else "convolution gets"
        yield Hit(
            message=f"{len(convolutions)} {get} an adapter: no server of language models loads it",
            paths=tuple(adapter.module for adapter in convolutions),
            fix=f"leave out {', '.join(map(repr, names))}",
        )


RULE = Rule(
    name="conv-adapted",
    severity=Severity.WARNING,
    happens="A name such as conv1d, proj or patch_embedding hits a convolution. Depthwise ones make PEFT "
    "raise unless the rank is a multiple of their groups.",
    why="PEFT has LoRA layers for convolutions and applies them wherever a name matches one.",
    fix="Name linear layers only; end an expression with their names.",
    sources=("peft/tuners/lora/layer.py, _ConvNd.update_layer", "huggingface/peft#2556"),
    examine=_examine,
)
