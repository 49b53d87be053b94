"""Comparing two models weight by weight, or what two target sets train."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lora_probe.budgeting.choice import choose
from lora_probe.budgeting.count import adapter_elements, trainable_parameters
from lora_probe.budgeting.ranks import read_ranks
from lora_probe.comparing.records import (
    Change,
    Difference,
    Facts,
    RoleDifference,
    Side,
    SiteDifference,
    Total,
)
from lora_probe.errors import ConflictingOptions
from lora_probe.patterns import collapse
from lora_probe.peft_rules import Inventory, predict
from lora_probe.summary import addresses

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lora_probe.graph import ModuleGraph, Site
    from lora_probe.peft_rules import Adapter

__all__ = ["OTHER_WEIGHTS", "diff"]

OTHER_WEIGHTS = "other weights"
"""What stands for a role where a weight is no site."""
_SIDES = 2


def diff(
    first: ModuleGraph,
    second: ModuleGraph | None = None,
    *,
    targets: str | Sequence[str] = (),
    rank: int = 16,
) -> Difference:
    """Return in which sites, roles and counts two models differ, or in what two target sets train.

    Args:
        first: One model.
        second: The other; left out, two target sets are compared on `first`.
        targets: One target set for both models, or one for each side; without any, whole models are compared:
            every weight by its name, with its role, kind, size and whether it is tied.
        rank: r of the target sets.

    Raises:
        ConflictingOptions: There is nothing to compare with, or there are more than two target sets.
        LoraProbeError: A target set cannot be read or matches nothing, or PEFT would refuse it.

    """
    texts = [targets] if isinstance(targets, str) else list(targets)
    if len(texts) > _SIDES or (second is None and len(texts) < _SIDES):
        raise ConflictingOptions(
            options=("second", "targets"), problem="give two models, or one and two target sets"
        )
    graphs = (first, first if second is None else second)
    if texts:
        (rank,) = read_ranks(rank, where="rank")
        one, other = (
            _trained(graph, text, rank) for graph, text in zip(graphs, (texts * 2)[:2], strict=True)
        )
    else:
        one, other = (_weights(graph) for graph in graphs)
    changed = [name for name in (*one.facts, *other.facts) if one.facts.get(name) != other.facts.get(name)]
    return Difference(
        first=one.side,
        second=other.side,
        same=sum(other.facts.get(name) == facts for name, facts in one.facts.items()),
        roles=tuple(_roles(one, other)),
        sites=tuple(_rows(dict.fromkeys(changed), one, other)),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Compared:
    """One side with the facts of its weights by their full names."""

    side: Side
    facts: Mapping[str, Facts]
    shown: Mapping[str, str]
    """The name under which a weight is shown."""


def _weights(graph: ModuleGraph) -> _Compared:
    facts = {site.parameter: _facts(site) for site in graph.sites}
    for item in graph.uncovered:
        facts[item.parameter] = Facts(
            role=OTHER_WEIGHTS,
            kind="parameter",
            sizes=item.shape,
            tied=item.tied_to is not None,
            parameters=item.parameters,
        )
    return _Compared(
        side=_side(graph, sites=len(graph.sites), parameters=graph.total_parameters),
        facts=facts,
        shown=_shown(graph),
    )


def _trained(graph: ModuleGraph, text: str, rank: int) -> _Compared:
    inventory = Inventory(graph)
    settings = replace(choose(inventory, text, {}).settings, rank=rank, alpha=rank)
    prediction = predict(inventory, settings)
    facts = {
        adapter.site.parameter: _adapter_facts(adapter, adapter.site)
        for adapter in prediction.adapters
        if adapter.site
    }
    parameters = trainable_parameters(prediction, inventory)
    side = _side(graph, sites=len(prediction.sites), parameters=parameters, targets=text)
    return _Compared(side=side, facts=facts, shown=_shown(graph))


def _facts(site: Site) -> Facts:
    return Facts(
        role=site.role,
        kind=site.kind.value,
        sizes=(site.in_features, site.out_features, *((site.experts,) if site.experts > 1 else ())),
        tied=site.tied_to is not None,
        parameters=site.parameters,
    )


def _adapter_facts(adapter: Adapter, site: Site) -> Facts:
    return replace(_facts(site), rank=adapter.rank, parameters=adapter_elements(site, adapter.rank))


def _side(graph: ModuleGraph, *, sites: int, parameters: int, targets: str | None = None) -> Side:
    return Side(
        model=graph.model,
        source=graph.source,
        architecture=graph.architecture,
        targets=targets,
        sites=sites,
        parameters=parameters,
    )


def _shown(graph: ModuleGraph) -> dict[str, str]:
    names = (site.parameter for site in graph.sites)
    return dict(zip(names, addresses(graph.sites), strict=True))


def _roles(one: _Compared, other: _Compared) -> Iterator[RoleDifference]:
    """Yield the roles whose totals differ, in the order of the models."""
    totals = [_totals(side.facts) for side in (one, other)]
    for role in dict.fromkeys(role for side in totals for role in side):
        first, second = (side.get(role, Total()) for side in totals)
        if first != second:
            yield RoleDifference(role=role, first=first, second=second)


def _totals(facts: Mapping[str, Facts]) -> dict[str, Total]:
    found: dict[str, Total] = {}
    for each in facts.values():
        total = found.get(each.role, Total())
        found[each.role] = Total(sites=total.sites + 1, parameters=total.parameters + each.parameters)
    return found


def _rows(names: Mapping[str, None], one: _Compared, other: _Compared) -> Iterator[SiteDifference]:
    """Yield the differences of `names`, those of one sort together."""
    groups: defaultdict[tuple[Facts | None, Facts | None], list[str]] = defaultdict(list)
    for name in names:
        shown = one.shown.get(name) or other.shown.get(name) or name
        groups[one.facts.get(name), other.facts.get(name)].append(shown)
    for (first, second), members in groups.items():
        change = Change.ADDED if first is None else Change.REMOVED if second is None else Change.CHANGED
        for pattern in collapse(dict.fromkeys(members)):
            yield SiteDifference(change=change, pattern=pattern, first=first, second=second)
