"""A fused gate and up that gets twice the rank."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.checks.near import parameter_names, quoted
from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit, Rule
from lora_probe.peft_rules.layers import rank_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case


def _examine(case: Case) -> Iterator[Hit]:
    doubled = [
        adapter
        for adapter in case.adapters
        if adapter.parameter is not None and adapter.rank != rank_of(case.settings, adapter.key)
    ]
    if not doubled:
        return
    sites = tuple(adapter.site for adapter in doubled if adapter.site is not None)
    asked = rank_of(case.settings, doubled[0].key)
    surplus = sum(site.lora_parameters(doubled[0].rank - asked) for site in sites)
    yield Hit(
        message=f"rank {doubled[0].rank} instead of {asked} on the fused gate and up, {surplus:,} parameters "
        "more; PEFT's warning about unmatched rank_pattern keys that comes with it is false",
        paths=tuple(adapter.key for adapter in doubled),
        fix=f"for rank {asked}, name them as target_parameters=[{quoted(parameter_names(sites))}] instead",
    )


RULE = Rule(
    name="doubled-rank",
    severity=Severity.INFO,
    happens="The fused gate_up_proj of every expert gets twice the rank (and alpha) that was asked for.",
    why="Gate and up had one adapter each as modules; where PEFT translates their names into the one fused "
    "parameter it keeps as many parameters by doubling the rank. Explicit target_parameters keep the rank.",
    fix="Nothing, if that is meant; else name the parameters as target_parameters.",
    sources=(
        "peft/utils/transformers_weight_conversion.py, _convert_peft_config_moe",
        "unslothai/unsloth#4907",
    ),
    examine=_examine,
)
