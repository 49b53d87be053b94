"""The numbers behind the plots of a budget: parameters against rank, and over roles and layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_probe.budgeting.limits import PARAMETERS
from lora_probe.budgeting.records import By
from lora_probe.errors import UnknownChoice

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from lora_probe.budgeting.records import Budget, Part, Row

__all__ = ["Curve", "LayerHeat", "RankCurves", "RoleHeat", "layer_heat", "rank_curves"]

_HIGHEST_SHOWN = 256
"""Rank to which curves reach, unless a row has a higher one."""


_MOST_LAYERS = 1000
"""Layers of the deepest model that is taken for real."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """Trained parameters of one set at some ranks."""

    targets: str
    ranks: tuple[int, ...]
    parameters: tuple[int, ...]
    marked: tuple[int, ...]
    """The ranks of the budget's own rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankCurves:
    """Trained parameters against the rank, for each set; sizes in elements."""

    curves: tuple[Curve, ...]
    """The set that costs most at one rank comes first."""
    limit: int | None
    """The most parameters that are allowed, where the budget has such a limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleHeat:
    """What one role takes: in each layer, and in all."""

    role: str
    layers: tuple[int, ...]
    """Elements in each layer of :class:`LayerHeat`, 0 where the role has none there."""
    total: int
    """Elements in all, also outside of layers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerHeat:
    """Where one row puts its parameters: roles by layers; sizes in elements."""

    targets: str
    rank: int
    layers: tuple[int, ...]
    """Every layer from the first to the last that the row adapts, with those between that it leaves alone."""
    roles: tuple[RoleHeat, ...]
    """In the order of the model; together they are all that the row trains."""


def rank_curves(budget: Budget) -> RankCurves:
    """Return each set's parameters at powers of two and at the ranks of its rows."""
    highest = max((row.rank for row in budget.rows), default=1)
    curves = []
    for chosen in budget.sets:
        marked = tuple(sorted(row.rank for row in budget.rows if row.targets == chosen.targets))
        rank, ranks = chosen.rank_step, set(marked)
        while rank <= max(_HIGHEST_SHOWN, highest, chosen.rank_step):
            ranks.add(rank)
            rank *= 2
        points = tuple(sorted(ranks))
        curves.append(
            Curve(
                targets=chosen.targets,
                ranks=points,
                parameters=tuple(map(chosen.trainable_parameters, points)),
                marked=marked,
            )
        )
    steepest_first = sorted(curves, key=lambda curve: -curve.parameters[-1] / curve.ranks[-1])
    limited = budget.limit is not None and budget.limit.unit == PARAMETERS
    return RankCurves(
        curves=tuple(steepest_first), limit=budget.limit.value if budget.limit and limited else None
    )


def layer_heat(budget: Budget, row: Row | None = None) -> LayerHeat | None:
    """Return where `row` puts its parameters; by default the row that adapts the most weights.

    None where there is no row.

    Raises:
        UnknownChoice: the budget was not split by role and layer.

    """
    if budget.by is not By.BOTH:
        raise UnknownChoice(option="by of the budget", value=budget.by, known=[By.BOTH])
    row = row or max(budget.rows, key=lambda each: (each.sites, each.trainable_parameters), default=None)
    if row is None:
        return None
    parts = [part for part in budget.parts if (part.targets, part.rank) == (row.targets, row.rank)]
    layers = _layers({part.layer for part in parts if part.layer is not None})
    roles = dict.fromkeys(part.role or "" for part in parts)
    return LayerHeat(
        targets=row.targets,
        rank=row.rank,
        layers=tuple(layers),
        roles=tuple(_role_heat(role, parts, layers) for role in roles),
    )


def _layers(adapted: Collection[int]) -> Sequence[int]:
    """Return every layer from the first to the last of `adapted`; of a wildly numbered model only these."""
    every = range(min(adapted), max(adapted) + 1) if adapted else range(0)
    return every if len(every) <= _MOST_LAYERS else sorted(adapted)


def _role_heat(role: str, parts: Sequence[Part], layers: Sequence[int]) -> RoleHeat:
    mine = [part for part in parts if part.role == role]
    by_layer = {part.layer: part.trainable_parameters for part in mine}
    return RoleHeat(
        role=role,
        layers=tuple(by_layer.get(layer, 0) for layer in layers),
        total=sum(part.trainable_parameters for part in mine),
    )
