"""Where the parameters of a model are: the numbers behind the plots and the bars of the page."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lora_probe.graph import ModuleGraph

__all__ = ["LayerParameters", "RoleShares", "layer_parameters", "role_shares"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleShares:
    """Parameters of each role, largest first; sizes in elements."""

    roles: tuple[str, ...]
    """``text:attention.q`` where the model has several towers, else ``attention.q``."""
    blocks: tuple[str, ...]
    """The block of each role."""
    parameters: tuple[int, ...]
    total_parameters: int
    """Of the whole model: what the parameters are a share of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerParameters:
    """Parameters of each repeated layer of one tower, by block; sizes in elements."""

    tower: str
    layers: tuple[int, ...]
    blocks: Mapping[str, tuple[int, ...]]
    """For each block, in the order of the model, one count a layer."""


def role_shares(graph: ModuleGraph) -> RoleShares:
    """Return what the sites of each role add up to; tied weights count once."""
    several = len({site.tower for site in graph.sites}) > 1
    sizes: defaultdict[tuple[str, str], int] = defaultdict(int)
    for site in graph.sites:
        sizes[site.role if several else f"{site.block}.{site.part}", site.block] += site.parameters
    ordered = sorted(sizes, key=sizes.__getitem__, reverse=True)
    return RoleShares(
        roles=tuple(role for role, _ in ordered),
        blocks=tuple(block for _, block in ordered),
        parameters=tuple(sizes[key] for key in ordered),
        total_parameters=graph.total_parameters,
    )


def layer_parameters(graph: ModuleGraph, *, tower: str | None = None) -> LayerParameters:
    """Return what the sites of each layer of `tower` add up to, by block; by default of the largest tower.

    Sites outside of any repeated layer (embeddings, heads) are left out.
    """
    inside = [(site, site.layer) for site in graph.sites if site.layer is not None]
    if tower is None:
        sizes: defaultdict[str, int] = defaultdict(int)
        for site, _ in inside:
            sizes[site.tower] += site.parameters
        tower = max(sizes, key=sizes.__getitem__, default="")
    inside = [(site, layer) for site, layer in inside if site.tower == tower]
    layers = sorted({layer for _, layer in inside})
    place = {layer: index for index, layer in enumerate(layers)}
    blocks: dict[str, list[int]] = {}
    for site, layer in inside:
        blocks.setdefault(site.block, [0] * len(layers))[place[layer]] += site.parameters
    return LayerParameters(
        tower=tower,
        layers=tuple(layers),
        blocks={block: tuple(counts) for block, counts in blocks.items()},
    )
