"""Only one half of a fused gate and up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit, Rule
from lora_probe.peft_rules.tables import FUSED_EXPERTS, renamed_experts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case


def _examine(case: Case) -> Iterator[Hit]:
    if case.refusal is None or case.refusal.rule != "half-fused":
        return
    halves = FUSED_EXPERTS[renamed_experts(case.graph.model_type) or ""]
    yield Hit(
        message=f"PEFT refuses this: {case.refusal.reason}",
        paths=tuple(
            site.parameter for site in case.graph.sites if site.part == "gate_up" and site.experts > 1
        ),
        fix=f"name both of {' and '.join(halves)}, or neither",
    )


RULE = Rule(
    name="gate-without-up",
    severity=Severity.ERROR,
    happens="PEFT raises.",
    why="In transformers 5 the gate and up projections of the experts are one parameter; PEFT translates "
    "their old names only together.",
    fix="Name gate_proj and up_proj (w1 and w3 in Mixtral's naming) together, or neither.",
    sources=(
        "peft/utils/transformers_weight_conversion.py, _convert_peft_config_moe",
        "unslothai/unsloth#11014",
    ),
    examine=_examine,
)
