"""Fused experts that a target set was meant to reach and does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.checks.near import parameter_names, quoted
from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit, Rule
from lora_probe.graph import Adaptable
from lora_probe.peft_rules.tables import renamed_experts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case

EXPERT_NAMES = frozenset(
    {"gate_proj", "up_proj", "down_proj", "gate_up_proj", "w1", "w2", "w3", "experts", "input_linear",
     "output_linear", "fc1", "fc2"}
)  # fmt: skip
"""Last segments under which experts were modules, or are parameters."""
_FEED_FORWARD = frozenset({"mlp", "experts", "shared_experts"})


def asks_for_experts(case: Case) -> bool:
    """Tell whether the target set, as it is written, names what the experts are made of."""
    if case.settings.is_all_linear:
        return True
    if not case.request.is_exact and any(name.rpartition(".")[2] in EXPERT_NAMES for name in case.names):
        return True
    return any(site.block in _FEED_FORWARD for site in (*case.written_sites, *case.sites))


def _examine(case: Case) -> Iterator[Hit]:
    if case.prediction is None and renamed_experts(case.graph.model_type):
        return  # PEFT would have reached them, had it not refused for another reason
    experts = [
        site
        for site in case.graph.sites
        if site.block == "experts" and site.adaptable is Adaptable.PARAMETER and site.experts > 1
    ]
    named = set(case.inventory.parameter_names.ending_with(case.settings.target_parameters))
    missed = tuple(site for site in experts if site.parameter not in case.adapted | named)
    if not experts or len(missed) < len(experts) or not asks_for_experts(case):
        return
    elements = sum(site.parameters for site in missed)
    yield Hit(
        severity=Severity.WARNING if case.request.is_exact else None,
        message=f"no expert gets an adapter: {elements:,} of the model's {case.graph.total_parameters:,} "
        "parameters are experts, stored as 3-D parameters, which target_modules does not reach",
        paths=tuple(site.parameter for site in missed),
        fix="add the role experts"
        if case.request.is_exact
        else f"add target_parameters=[{quoted(parameter_names(missed))}]",
    )


RULE = Rule(
    name="experts-missed",
    severity=Severity.ERROR,
    happens="The names of the experts' projections, or all-linear, adapt attention (and perhaps a dense or "
    "shared layer) only. The experts, most of the model, are not trained, and nothing says so.",
    why="Since transformers 5 the experts of a layer are one 3-D parameter, no modules with names. PEFT "
    "translates the old names for 29 model types; for all others they match nothing.",
    fix="Name the parameters: target_parameters takes the ends of their names.",
    sources=("huggingface/peft#3009", "huggingface/peft#2527", "unslothai/unsloth#4907"),
    examine=_examine,
)
