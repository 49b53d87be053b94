"""Layer by role: what a heat map of one signal shows, before anything is drawn."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from lora_probe.scoring.ranking import signal_value
from lora_probe.scoring.records import Signal

if TYPE_CHECKING:
    from lora_probe.scoring.records import Scores

__all__ = ["HeatMap", "heat_map", "heat_maps"]


@dataclass(frozen=True, kw_only=True, slots=True)
class HeatMap:
    """One signal over the layers of one tower."""

    signal: Signal
    tower: str
    roles: tuple[str, ...]
    """block.part, in the order of the model."""
    layers: tuple[int, ...]
    values: tuple[tuple[float | None, ...], ...]
    """(roles, layers): the mean over a role's modules in a layer; None where it has none there."""

    def share(self, value: float | None) -> float | None:
        """Return how strongly to adapt, from 0 to 1: the place of `value` between the map's extremes.

        The lowest NFN is 1. Energies span orders of magnitude, so that their logarithms are compared; an
        energy of zero is 0.
        """
        if value is None:
            return None
        scale = (lambda number: -number) if self.signal is Signal.NFN else _logarithm
        known = [scale(each) for row in self.values for each in row if each is not None]
        finite = [each for each in known if math.isfinite(each)]
        if not finite or not math.isfinite(scale(value)):
            return 0.0
        low, high = min(finite), max(finite)
        return (scale(value) - low) / (high - low) if high > low else 0.5


def heat_map(scores: Scores, signal: Signal, *, tower: str | None = None) -> HeatMap:
    """Return the map of one signal; by default of the tower with the most modules in layers."""
    inside = [site for site in scores.sites if site.layer is not None]
    if tower is None:
        towers = [site.role.partition(":")[0] for site in inside]
        tower = max(dict.fromkeys(towers), key=towers.count, default="")
    cells: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    roles: dict[str, None] = {}
    layers: set[int] = set()
    for site in inside:
        name, _, role = site.role.partition(":")
        if name != tower or site.layer is None:
            continue
        roles.setdefault(role)
        layers.add(site.layer)
        value = signal_value(site, signal)
        if value is not None and not math.isnan(value):
            cells[role, site.layer].append(value)
    ordered = tuple(sorted(layers))
    values = tuple(
        tuple(fmean(cells[role, layer]) if (role, layer) in cells else None for layer in ordered)
        for role in roles
    )
    return HeatMap(signal=signal, tower=tower, roles=tuple(roles), layers=ordered, values=values)


def heat_maps(scores: Scores) -> tuple[HeatMap, ...]:
    """Return the maps of all signals that have values, tower by tower."""
    towers = dict.fromkeys(site.role.partition(":")[0] for site in scores.sites if site.layer is not None)
    found = [heat_map(scores, signal, tower=tower) for tower in towers for signal in Signal]
    return tuple(each for each in found if any(value is not None for row in each.values for value in row))


def _logarithm(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf
