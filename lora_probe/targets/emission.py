"""From exact sites back to what a `LoraConfig` can say."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lora_probe.errors import NotExpressible, PeftRefusal
from lora_probe.graph import Adaptable, Kind, ModuleGraph
from lora_probe.peft_rules import Inventory, LoraSettings, predict
from lora_probe.peft_rules.experts import renamed_to
from lora_probe.peft_rules.matching import layer_index
from lora_probe.peft_rules.tables import RENAMED_EXPERTS, is_refused_in_mamba, renamed_experts
from lora_probe.targets.expressions import exact_expression
from lora_probe.targets.selection import any_rank
from lora_probe.targets.suffixes import shortest_suffixes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lora_probe.graph import Site

__all__ = ["emit"]

_SHORT, _SHORT_NUMBERED = 12, 4
"""Names that a list may hold, without and with layers among them, before another form is tried."""


def emit(
    graph: ModuleGraph | Inventory,
    sites: Iterable[Site],
    *,
    settings: LoraSettings | None = None,
    layers: bool = True,
    expressions: bool = True,
    exclusions: bool = True,
) -> LoraSettings:
    """Return `settings` with the targets that PEFT reads as exactly `sites`, and nothing else.

    Of what is exact, the first is taken:

    1. a list of at most 12 names, 4 if they hold layers, the fewest there can be: every trainer reads it;
    2. a shorter list of names with `layers_to_transform` (not with ``layers=False``);
    3. an expression, where its text is shorter than the list's (not with ``expressions=False``);
    4. last segments and an expression in `exclude_modules`, where that is shorter than the list (not with
       ``exclusions=False``);
    5. the list in full.

    Experts, and other weights that are parameters, go into `target_parameters`. So do linear layers that
    PEFT's rewriting of expert names puts out of reach otherwise: the gate, up and down of dense layers and
    shared experts in 29 model types; parameters take neither dropout nor DoRA. Whatever is returned was
    resolved again on the whole model first.

    Raises:
        NotExpressible: no `LoraConfig` means these sites; says why.

    """
    inventory = Inventory(graph) if isinstance(graph, ModuleGraph) else graph
    settings = settings or LoraSettings()
    wanted = tuple(sites)
    if not wanted:
        raise NotExpressible(paths=[], reason="no site is wanted")
    modules, parameters = _divided(wanted, inventory)
    reason = ""
    forms = _Forms(layers=layers, expressions=expressions, exclusions=exclusions)
    for candidate in _candidates(modules, parameters, inventory, forms):
        fault = _fault(candidate, wanted, inventory)
        if fault is None:
            return replace(
                settings,
                target_modules=candidate.target_modules,
                target_parameters=candidate.target_parameters,
                layers_to_transform=candidate.layers_to_transform,
                layers_pattern=None,
                exclude_modules=candidate.exclude_modules,
            )
        reason = fault
    raise NotExpressible(paths=[site.parameter for site in wanted], reason=reason)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Forms:
    """What a configuration may use beside a list of names."""

    layers: bool
    expressions: bool
    exclusions: bool


def _divided(wanted: Sequence[Site], inventory: Inventory) -> tuple[list[str], list[str]]:
    """Return the modules and the parameters to be named for the wanted sites, each in order."""
    family = renamed_experts(inventory.graph.model_type)
    chosen = {site.parameter for site in wanted}
    modules, parameters = [], []
    for site in wanted:
        if site.adaptable is None:
            reason = "PEFT has no adapter for this sort of weight"
            if is_refused_in_mamba(site.path, inventory.graph.model_type):
                reason = (
                    f"the fused kernels of {inventory.graph.model_type} read past it, so that PEFT refuses it"
                )
            raise NotExpressible(paths=[site.parameter], reason=reason)
        if site.adaptable is Adaptable.PARAMETER or (
            family and renamed_to(site.path, RENAMED_EXPERTS[family])
        ):
            parameters.append(site.parameter)
        elif not _comes_with_attention(site, chosen, inventory):
            modules.append(site.path)
    return modules, parameters


def _comes_with_attention(site: Site, chosen: set[str], inventory: Inventory) -> bool:
    """Return whether `site` is the output of a packed attention that is wanted: PEFT adapts both or none."""
    attention = inventory.by_module.get(site.path.rpartition(".")[0])
    return attention is not None and attention.kind is Kind.PACKED_ATTENTION and attention.parameter in chosen


def _candidates(
    modules: Sequence[str], parameters: Sequence[str], inventory: Inventory, forms: _Forms
) -> Iterator[LoraSettings]:
    """Yield settings that may mean the wanted modules and parameters, the best form first."""
    names = shortest_suffixes(parameters, inventory.parameter_names)
    if names is None:
        reason = "their names are the ends of other parameters' names"
        raise NotExpressible(paths=parameters, reason=reason)
    base = LoraSettings(rank=any_rank(inventory), target_modules=(), target_parameters=tuple(sorted(names)))
    listed = shortest_suffixes(modules, inventory.paths)
    if listed is not None and len(listed) <= (_SHORT_NUMBERED if _has_numbers(listed) else _SHORT):
        yield replace(base, target_modules=listed)
    length = sys.maxsize if listed is None else len(",".join(listed))
    if forms.layers and modules:
        yield from _in_layers(modules, base, inventory, shorter_than=len(listed or modules))
    # PEFT takes an expression apart where it rewrites expert names, so that it says something else there.
    if forms.expressions and modules and not renamed_experts(inventory.graph.model_type):
        expression = exact_expression(modules, inventory.paths)
        if len(expression) < length:
            yield replace(base, target_modules=expression)
    if forms.exclusions and modules:
        leaves = tuple(dict.fromkeys(path.rpartition(".")[2] for path in modules))
        others = set(inventory.paths.ending_with(leaves)).difference(modules)
        expression = exact_expression(sorted(others), modules)
        if len(",".join(leaves)) + len(expression) < length:
            yield replace(base, target_modules=leaves, exclude_modules=expression)
    if listed is not None:
        yield replace(base, target_modules=listed)


def _has_numbers(names: Iterable[str]) -> bool:
    return any(segment.isdecimal() for name in names for segment in name.split("."))


def _in_layers(
    modules: Sequence[str], base: LoraSettings, inventory: Inventory, *, shorter_than: int
) -> Iterator[LoraSettings]:
    """Yield the list with `layers_to_transform`, where that shortens it.

    A name given in full is adapted whatever its layer, so that modules outside of the layers can stand
    beside them.
    """
    indices = {path: layer_index(path) for path in modules}
    layers = {index for index in indices.values() if index is not None}
    inside = [path for path in modules if indices[path] is not None]
    outside = tuple(path for path in modules if indices[path] is None)
    names = shortest_suffixes(inside, [path for path in inventory.paths if layer_index(path) in layers])
    if layers and names is not None and len(names) + len(outside) < shorter_than:
        target = names + outside
        yield replace(base, target_modules=target, layers_to_transform=tuple(sorted(layers)))


def _fault(candidate: LoraSettings, wanted: Sequence[Site], inventory: Inventory) -> str | None:
    """Return what is wrong with `candidate` as a way to say `wanted`; None where it means exactly that."""
    try:
        adapters = predict(inventory, candidate).adapters
    except PeftRefusal as refusal:
        return refusal.reason
    found = [adapter.site.parameter for adapter in adapters if adapter.site]
    missing = sorted({site.parameter for site in wanted} - set(found))
    if missing:
        return f"{missing[0]} cannot be named"
    others = sorted(set(found) - {site.parameter for site in wanted})
    if others:
        return f"{others[0]} comes with them"
    return None if len(found) == len(adapters) == len(set(found)) else "a weight would be adapted twice"
