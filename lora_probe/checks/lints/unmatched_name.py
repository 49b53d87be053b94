"""An entry of a list that matches nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lora_probe.checks.lints.experts_missed import EXPERT_NAMES
from lora_probe.checks.near import suggestion
from lora_probe.checks.records import Severity
from lora_probe.checks.renames import new_names
from lora_probe.checks.rule import Hit, Rule
from lora_probe.graph import Adaptable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case


def _examine(case: Case) -> Iterator[Hit]:
    for name in case.names:
        found = case.literally(replace(case.settings, target_modules=(name,)))
        if name in case.renamed or (not found and (new_names(case.graph, name) or _is_expert(case, name))):
            continue
        if not found and case.matches(name):
            yield Hit(message=f"target_modules entry {name!r} matches only layers that are not transformed")
        elif not found:
            silently = "" if case.prediction is None else ", and PEFT does not say so"
            yield Hit(
                message=f"target_modules entry {name!r} matches no module{silently}",
                fix=suggestion(case, name),
            )
        elif case.left_out.issuperset(found):
            yield Hit(
                message=f"everything that target_modules entry {name!r} matches is excluded or saved in full",
                paths=tuple(found),
                fix=f"drop {name!r}, or take it out of exclude_modules and modules_to_save",
            )
    for name in case.settings.target_parameters:
        if not case.inventory.parameter_names.ending_with((name,)):
            yield Hit(
                message=f"target_parameters entry {name!r} matches no parameter",
                fix=suggestion(case, name),
            )
    for name in case.settings.modules_to_save:
        if not any(path.endswith(name) for path in case.inventory.paths):
            yield Hit(message=f"modules_to_save entry {name!r} matches no module", fix=suggestion(case, name))


def _is_expert(case: Case, name: str) -> bool:
    """Tell whether `name` is that of experts that are parameters here, which another rule reports."""
    if name.rpartition(".")[2] not in EXPERT_NAMES or any(site.block == "experts" for site in case.sites):
        return False
    return any(site.block == "experts" and site.adaptable is Adaptable.PARAMETER for site in case.graph.sites)


RULE = Rule(
    name="unmatched-name",
    severity=Severity.ERROR,
    happens="One of several names matches no module. Training runs, without the layers that the name was "
    "for.",
    why="PEFT raises only when no name at all matches; one that matches nothing is dropped without a word.",
    fix="Write the name that this model has for the layer: lora-probe scan lists them.",
    sources=("huggingface/peft#1959", "hiyouga/LlamaFactory#1785", "hiyouga/LlamaFactory#4020"),
    examine=_examine,
)
