"""Predict, without torch, which weights `peft.get_peft_model` adapts, or why it raises.

The steps are those of `BaseTuner.inject_adapter` (peft/tuners/tuners_utils.py, 0.21), in its order, so that
of two faults the one is reported that PEFT would raise for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lora_probe.errors import PeftRefusal
from lora_probe.graph import Kind, ModuleGraph
from lora_probe.peft_rules.experts import rewrite_expert_names
from lora_probe.peft_rules.extras import saved_copies, token_rows
from lora_probe.peft_rules.inventory import Inventory
from lora_probe.peft_rules.layers import adapt_module, adapt_parameter, check_reachable
from lora_probe.peft_rules.matching import condensed, excluded_paths, matched_paths, pattern_key
from lora_probe.peft_rules.patience import patience
from lora_probe.peft_rules.records import Prediction
from lora_probe.peft_rules.tables import DEFAULT_TARGETS, SAVED_BY_TASK
from lora_probe.peft_rules.tying import embedding_adapter, tie_modules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lora_probe.peft_rules.records import Adapter
    from lora_probe.peft_rules.settings import LoraSettings

__all__ = ["predict"]

_SEQUENCE_HEADS = ("score", "classifier")
"""Children of the root of which all-linear leaves out the first that exists, for a classifier."""


def predict(graph: ModuleGraph | Inventory, settings: LoraSettings) -> Prediction:
    """Return what PEFT would train for `settings` on the model of `graph`.

    Pass an :class:`Inventory` to predict many settings for one model.

    Raises:
        PeftRefusal: PEFT would raise; `rule` says which of its checks.
        SlowExpression: PEFT would hang: an expression backtracks without end.

    """
    inventory = Inventory(graph) if isinstance(graph, ModuleGraph) else graph
    with patience(settings):
        return _predicted(inventory, settings)


def _predicted(inventory: Inventory, settings: LoraSettings) -> Prediction:
    if inventory.graph.tied_modules is None:
        reason = f"{inventory.graph.architecture} does not say which module is its input embedding"
        raise PeftRefusal(rule="no-input-embedding", reason=reason)
    settings = rewrite_expert_names(_with_task(settings), inventory)
    ties = tie_modules(settings, inventory)
    settings = _expanded(_with_defaults(ties.settings, inventory), inventory)
    tied = inventory.paths.ending_with(ties.adapted)
    excluded = excluded_paths(settings, inventory.paths)
    skipped = excluded.union(tied)
    targeted = [path for path in matched_paths(settings, inventory.paths) if path not in skipped]
    adapters = _module_adapters(targeted, settings, inventory)
    adapters += _parameter_adapters(settings, inventory, adapters)
    for path in tied:
        adapters += _tied_adapters(path, settings, inventory, adapters, names=ties.adapted)
    if not adapters:
        raise _nothing_adapted(settings, inventory, excluded.difference(tied))
    saved = saved_copies(settings, inventory, adapters, tied=ties.saved)
    return Prediction(
        settings=settings,
        adapters=tuple(adapters),
        saved=saved,
        tokens=token_rows(settings, inventory, adapters, saved),
        warnings=tuple(_warnings(settings, targeted, adapters, excluded)),
    )


def _with_task(settings: LoraSettings) -> LoraSettings:
    saved = SAVED_BY_TASK.get(settings.task_type or "", ())
    return replace(settings, modules_to_save=settings.modules_to_save + saved) if saved else settings


def _with_defaults(settings: LoraSettings, inventory: Inventory) -> LoraSettings:
    """Fill in PEFT's `target_modules` for the model type where none are given."""
    if settings.target_modules is not None:
        return settings
    model_type = inventory.graph.model_type
    targets = DEFAULT_TARGETS.get(model_type)
    if targets is None and not settings.target_parameters:
        raise PeftRefusal(rule="no-targets", reason=f"it has no default target_modules for {model_type}")
    if isinstance(targets, str):  # to which layers do not apply, though PEFT does not say so here
        return replace(settings, target_modules=targets, layers_to_transform=None, layers_pattern=None)
    return replace(settings, target_modules=targets)


def _expanded(settings: LoraSettings, inventory: Inventory) -> LoraSettings:
    """Spell out all-linear, and shorten long lists where that changes what PEFT does."""
    target = settings.target_modules
    if settings.is_all_linear:
        left_out = inventory.graph.output_embedding
        if left_out is None and settings.task_type == "SEQ_CLS":
            left_out = next((name for name in _SEQUENCE_HEADS if name in inventory.classes), None)
        return replace(settings, target_modules=tuple(path for path in inventory.linear if path != left_out))
    if isinstance(target, tuple) and (settings.layers_to_transform is not None or "" in target):
        return replace(settings, target_modules=tuple(sorted(condensed(target, inventory.paths))))
    return settings


def _module_adapters(targeted: Sequence[str], settings: LoraSettings, inventory: Inventory) -> list[Adapter]:
    adapters: list[Adapter] = []
    wrapped: set[str] = set()
    for path in targeted:
        check_reachable(path, wrapped)
        made = adapt_module(path, settings, inventory)
        if (
            len(made) == 1
        ):  # a packed attention alone leaves its output in reach, for a second, unused adapter
            wrapped.add(path)
        adapters += made
    return adapters


def _parameter_adapters(
    settings: LoraSettings, inventory: Inventory, adapters: Sequence[Adapter]
) -> list[Adapter]:
    """Return the adapters of the parameters that `target_parameters` names.

    Neither layers nor `exclude_modules` nor `modules_to_save` apply to them.
    """
    if not settings.target_parameters:
        return []
    names = inventory.parameter_names.ending_with(settings.target_parameters)
    adapted = {adapter.module for adapter in adapters}
    wrapped = set(adapted)
    orientation = [a.site.kind for a in adapters if a.site and a.site.kind in {Kind.LINEAR, Kind.CONV1D}]
    found: list[Adapter] = []
    for name in names:
        parameter = inventory.parameters[name]
        check_reachable(parameter.module, wrapped)
        wrapped.add(parameter.module)
        if parameter.module in adapted:
            reason = "a weight is targeted as a parameter and its module, too"
            raise PeftRefusal(rule="parameter-of-adapted", reason=reason, where=[name])
        found.append(adapt_parameter(parameter, settings, inventory))
        if orientation and orientation[-1] is Kind.CONV1D:
            # The last Conv1D switched fan_in_fan_out on for good, which the parameter's wrapper refuses.
            reason = "target_parameters do not go with adapted Conv1D modules"
            raise PeftRefusal(rule="parameter-option", reason=reason, where=[name])
    return found


def _tied_adapters(
    path: str,
    settings: LoraSettings,
    inventory: Inventory,
    adapters: Sequence[Adapter],
    *,
    names: Sequence[str],
) -> list[Adapter]:
    """Return the adapters of a tied module: the embedding's factors, or its own where PEFT sees no tie.

    PEFT looks the last segment of the path up among full paths, so that it finds modules of the root only,
    and an embedding makes factors of its own even then.
    """
    made = adapt_module(path, settings, inventory)
    if path.rpartition(".")[2] not in names:
        return made
    rank = embedding_adapter(adapters, inventory).rank
    return [
        adapter
        if adapter.site and adapter.site.kind is Kind.EMBEDDING
        else replace(adapter, tied=True, rank=rank)
        for adapter in made
    ]


def _nothing_adapted(settings: LoraSettings, inventory: Inventory, excluded: frozenset[str]) -> PeftRefusal:
    if excluded and all(path in excluded for path in inventory.paths):
        return PeftRefusal(rule="all-excluded", reason="every module is excluded")
    if excluded:
        return PeftRefusal(rule="excluded-or-unmatched", reason="what target_modules matches is excluded")
    if not settings.target_modules:
        return PeftRefusal(
            rule="no-parameters", reason="no target_modules are given and no target_parameters match"
        )
    return PeftRefusal(rule="nothing-matched", reason="target_modules match no module of this model")


def _warnings(
    settings: LoraSettings, targeted: Sequence[str], adapters: Sequence[Adapter], excluded: frozenset[str]
) -> list[str]:
    """Return what PEFT warns of. It compares patterns with modules only: one for a parameter always warns."""
    found = []
    if settings.exclude_modules and not excluded:
        found.append("exclude_modules excludes nothing")
    elif settings.target_modules and not targeted:
        found.append("target_modules match no module")
    elif settings.target_parameters and not any(adapter.parameter for adapter in adapters):
        found.append("target_parameters match no parameter")
    for field, patterns in (
        ("rank_pattern", settings.rank_pattern),
        ("alpha_pattern", settings.alpha_pattern),
    ):
        unused = [key for key in patterns if not any(pattern_key((key,), path) for path in targeted)]
        if unused:
            found.append(f"{field} matches no module with {', '.join(unused)}")
    return found
