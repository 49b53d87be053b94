"""For trainers with words for roles only: what is wanted, as whole roles."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora_probe.exporting.plan import Plan

__all__ = ["check_one_rank", "whole_roles"]

Role = tuple[str, str]
"""Block and part: ``("attention", "q")``."""


def whole_roles(plan: Plan) -> frozenset[Role]:
    """Return the roles that the wanted sites play, for a model that has one tower.

    Raises:
        NotExportable: the model has several towers, or a role is wanted in some places and not in all.

    """
    if len(plan.towers) > 1:
        raise plan.refusal(f"it has no names for several towers: {', '.join(sorted(plan.towers))}")
    holders: defaultdict[Role, list[str]] = defaultdict(list)
    for site in plan.graph.sites:
        holders[site.block, site.part].append(site.parameter)
    wanted = {site.parameter for site in plan.sites}
    roles = frozenset((site.block, site.part) for site in plan.sites)
    for block, part in sorted(roles):
        left = [name for name in holders[block, part] if name not in wanted]
        if left:
            raise plan.refusal(
                f"it adapts {block}.{part} in all layers or in none, and some are left out", left
            )
    return roles


def check_one_rank(plan: Plan) -> None:
    """Check that all adapters have the rank that was asked for, and adapt modules.

    Raises:
        NotExportable: one has another, or adapts a parameter.

    """
    for adapter in plan.prediction.adapters:
        if adapter.parameter is not None:
            raise plan.refusal("it adapts modules only, and this is a parameter", [adapter.key])
        if adapter.rank != plan.settings.rank:
            raise plan.refusal("it has one rank for all, and PEFT would use another here", [adapter.key])
