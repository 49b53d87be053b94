"""PEFT's rewriting of expert names for transformers 5, where experts are parameters and no longer modules.

For 29 model types (`tables.renamed_experts`), `target_modules` is rewritten before anything is matched
(`_convert_peft_config_moe` in peft/utils/transformers_weight_conversion.py). What follows from it surprises:

- a regular expression becomes the last segments of what it matches, so that layers or towers it names are
  lost;
- every name that ends like an expert's projection becomes the expert parameter, also that of a dense layer
  or of a shared expert, which then gets nothing;
- gate and up together double the rank (and alpha) of the fused parameter, explicit `target_parameters` do
  not;
- no `target_modules` at all no longer falls back to PEFT's default for the model type.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lora_probe.errors import PeftRefusal
from lora_probe.peft_rules.inventory import Names
from lora_probe.peft_rules.matching import excluded_paths, matched_paths
from lora_probe.peft_rules.tables import FUSED_EXPERTS, RENAMED_EXPERTS, renamed_experts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lora_probe.peft_rules.inventory import Inventory
    from lora_probe.peft_rules.settings import LoraSettings

__all__ = ["FUSED_PARAMETER", "renamed_to", "rewrite_expert_names"]

FUSED_PARAMETER = "gate_up_proj"
_FUSED_PATTERN = rf".*\.{FUSED_PARAMETER}"


def renamed_to(name: str, renames: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the old and new name under which PEFT rewrites the target `name`, None where it does not."""
    for old, new in renames.items():
        if name == old or name.endswith(f".{old}"):
            return old, new
    return None


def rewrite_expert_names(settings: LoraSettings, inventory: Inventory) -> LoraSettings:
    """Return `settings` as PEFT uses them after its rewriting; unchanged for other model types.

    Raises:
        PeftRefusal: only one of gate and up is named; they are one parameter now.

    """
    family = renamed_experts(inventory.graph.model_type)
    if family is None:
        return settings
    renames, fused = RENAMED_EXPERTS[family], FUSED_EXPERTS[family]
    if isinstance(settings.target_modules, str):
        names = _last_segments(settings, inventory, renames)
        if not names:
            return settings
    else:
        names = frozenset(settings.target_modules or ())
    kept: set[str] = set()
    old_names: set[str] = set()
    parameters = set(settings.target_parameters)
    for name in names:
        if renamed := renamed_to(name, renames):
            old_names.add(renamed[0])
            parameters.add(renamed[1])
        else:
            kept.add(name)
    missing = [name for name in fused if name not in old_names]
    if missing and len(missing) < len(fused):
        present = next(name for name in fused if name in old_names)
        raise PeftRefusal(
            rule="half-fused",
            reason=f"{present} and {missing[0]} are one parameter, {FUSED_PARAMETER}: target both or none",
        )
    changed = replace(
        settings, target_modules=tuple(sorted(kept)), target_parameters=tuple(sorted(parameters))
    )
    if missing:
        return changed
    return replace(
        changed,
        rank_pattern={**settings.rank_pattern, _FUSED_PATTERN: settings.rank * len(fused)},
        alpha_pattern={**settings.alpha_pattern, _FUSED_PATTERN: settings.alpha * len(fused)},
    )


def _last_segments(
    settings: LoraSettings, inventory: Inventory, renames: Mapping[str, str]
) -> frozenset[str]:
    """Return the names that PEFT puts in the place of a regular expression or of all-linear."""
    if settings.is_all_linear:
        adapted = (path for path in inventory.linear if path != inventory.graph.output_embedding)
        return frozenset({path.rpartition(".")[2] for path in adapted} | set(renames))
    # PEFT tries the expression on the root, on every module and on every parameter.
    names = Names(["", *inventory.paths, *inventory.parameter_names])
    found = {name.rpartition(".")[2] for name in _targeted(settings, names)}
    holders: dict[str, list[str]] = {}
    for name in inventory.parameter_names:
        holder, _, leaf = name.rpartition(".")
        holders.setdefault(leaf, []).append(holder)
    for old, new in renames.items():
        if old not in found and _targeted(
            settings, Names(f"{holder}.{old}" for holder in holders.get(new, ()))
        ):
            found.add(old)
    return frozenset(found)


def _targeted(settings: LoraSettings, names: Names) -> list[str]:
    lost = excluded_paths(settings, names)
    return [name for name in matched_paths(settings, names) if name not in lost]
