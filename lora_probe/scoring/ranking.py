"""From modules to roles: sums and means, a place in each signal's ranking, and where rankings disagree."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from itertools import combinations
from statistics import correlation, fmean
from typing import TYPE_CHECKING

from lora_probe.scoring.records import RoleScore, Signal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lora_probe.scoring.records import SiteScore

__all__ = ["agreement", "ranked_roles", "signal_to_noise", "signal_value"]

_FEWEST = 3
"""Roles below which places say nothing about each other."""


def ranked_roles(sites: Sequence[SiteScore], targets: Mapping[str, str]) -> tuple[RoleScore, ...]:
    """Return the roles of `sites` with their places; `targets` says how each is written as a target set.

    A role's NFN is the mean over its modules; its energies are sums, its SNR that of the modules' gradients
    taken together. Signals rank by NFN, and by the energies for each added parameter: sums favour whatever is
    big.
    """
    members: defaultdict[str, list[SiteScore]] = defaultdict(list)
    for site in sites:
        members[site.role].append(site)
    roles = [_role(role, each, targets.get(role, "")) for role, each in members.items()]
    places = {signal: _places(roles, signal) for signal in Signal}
    apart = max(2, math.ceil(len(roles) / 2))
    found = []
    for role in roles:
        own = {str(signal): places[signal].get(role.role) for signal in Signal}
        known = [place for place in own.values() if place is not None]
        contested = len(roles) >= _FEWEST and bool(known) and max(known) - min(known) >= apart
        found.append(replace(role, places=own, contested=contested))
    return tuple(sorted(found, key=lambda role: _mean_place(role, len(roles))))


def signal_value(score: RoleScore | SiteScore, signal: Signal) -> float | None:
    """Return what `signal` ranks by."""
    if signal is Signal.NFN:
        return score.nfn
    value = score.energy if signal is Signal.ENERGY else score.consistent_energy
    return None if value is None else value / score.added_parameters


def agreement(roles: Sequence[RoleScore]) -> dict[str, float]:
    """Return Spearman's correlation of each two rankings, over the roles that have a place in both."""
    found = {}
    for one, other in combinations(Signal, 2):
        pairs = [(role.places[one], role.places[other]) for role in roles]
        both = [(here, there) for here, there in pairs if here is not None and there is not None]
        if len(both) >= _FEWEST:
            first, second = (_places_among(column) for column in zip(*both, strict=True))
            found[f"{one}~{other}"] = correlation(first, second)
    return found


def _role(role: str, sites: Sequence[SiteScore], targets: str) -> RoleScore:
    norms = [site.nfn for site in sites if site.nfn is not None]
    added = sum(site.added_parameters for site in sites)
    energy = math.fsum(site.energy for site in sites)
    agreed = [site.consistent_energy for site in sites if site.consistent_energy is not None]
    consistent = math.fsum(agreed) if len(agreed) == len(sites) else None
    return RoleScore(
        role=role,
        targets=targets,
        block=sites[0].block,
        sites=len(sites),
        added_parameters=added,
        nfn=fmean(norms) if norms else None,
        energy=energy,
        energy_per_parameter=energy / added,
        snr=None if consistent is None else signal_to_noise(consistent, energy),
        consistent_energy=consistent,
        consistent_energy_per_parameter=None if consistent is None else consistent / added,
    )


def signal_to_noise(consistent: float, energy: float) -> float | None:
    """Return ``||mean g||^2 / (mean ||g||^2 - ||mean g||^2)``; infinite where all g are equal."""
    if not energy:
        return None
    noise = energy - consistent
    return consistent / noise if noise > 0 else math.inf


def _places(roles: Sequence[RoleScore], signal: Signal) -> dict[str, int]:
    """Return role -> place; roles without a value have none."""
    values = {role.role: signal_value(role, signal) for role in roles}
    known = {role: value for role, value in values.items() if value is not None and not math.isnan(value)}
    order = sorted(known, key=lambda role: known[role], reverse=signal is not Signal.NFN)
    return {role: place for place, role in enumerate(order, 1)}


def _mean_place(role: RoleScore, last: int) -> float:
    """Return the mean over all signals; one without a value counts as the last place."""
    given = [role.places[signal] for signal in Signal]
    return fmean(last if place is None else place for place in given) if any(given) else math.inf


def _places_among(places: Sequence[int]) -> list[int]:
    order = sorted(places)
    return [order.index(place) for place in places]
