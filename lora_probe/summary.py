"""A module graph, grouped the way a person reads it: one row for each role, shape and family of paths."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_probe.graph import Adaptable, Kind
from lora_probe.patterns import collapse

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
    from typing import TypeVar

    from lora_probe.graph import ModuleGraph, Site, Uncovered
    from lora_probe.patterns import Pattern

    _Key = TypeVar("_Key", bound=Hashable)

__all__ = ["Row", "Summary", "Total", "UncoveredRow", "addresses", "summarize"]

_BARE = frozenset({Kind.EXPERT_PARAMETER, Kind.MATRIX_PARAMETER})
"""Kinds whose weight is named itself, since its module holds other weights, too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Total:
    """What some sites add up to; sizes in elements."""

    sites: int
    parameters: int
    """Elements that the sites add to the model's total: tied weights count once."""
    adaptable_sites: int
    lora_parameters: int
    """Elements of plain LoRA on every adaptable one of the sites, at the summary's rank."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Sites of one role, kind and shape whose paths make one pattern."""

    tower: str
    block: str
    part: str
    kind: Kind
    pattern: Pattern
    """The sites' addresses: see :func:`addresses`."""
    in_features: int
    out_features: int
    experts: int
    adaptable: Adaptable | None
    tied_to: tuple[Pattern, ...]
    """Full names of the weights that the sites share; empty where the sites hold their own."""
    total: Total

    @property
    def role(self) -> str:
        """The role within its tower, as a role selector writes it: ``attention.q``."""
        return f"{self.block}.{self.part}"


@dataclass(frozen=True, kw_only=True, slots=True)
class UncoveredRow:
    """Parameters of one shape that are no site and whose names make one pattern."""

    pattern: Pattern
    shape: tuple[int, ...]
    parameters: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The rows of one graph at one rank, and what they add up to."""

    rank: int
    rows: tuple[Row, ...]
    """Ordered by tower, then block, then first appearance, each as the model has them."""
    towers: Mapping[str, Total]
    blocks: Mapping[tuple[str, str], Total]
    """By (tower, block)."""
    total: Total
    """Over all sites; with `uncovered_parameters` it makes the model's total."""
    uncovered: tuple[UncoveredRow, ...]
    uncovered_parameters: int
    total_parameters: int


def addresses(sites: Iterable[Site]) -> list[str]:
    """Return the name that tells each of `sites` from all the others.

    That is the module's path, as ``target_modules`` wants it, where the module is adapted as a whole; and the
    weight's full name, as ``target_parameters`` wants it, for bare parameters and wherever one module holds
    several sites; and for the root, which has no path.
    """
    sites = list(sites)
    seen = Counter(site.path for site in sites)
    seen.update(site.parameter for site in sites)
    return [
        site.parameter
        if not site.path or seen[site.path] > 1 or site.kind in _BARE or site.adaptable is Adaptable.PARAMETER
        else site.path
        for site in sites
    ]


def summarize(graph: ModuleGraph, *, rank: int) -> Summary:
    """Group the sites of `graph`; LoRA parameters are counted at `rank`.

    Nothing is dropped and nothing rounded: the rows' patterns expand to the graph's addresses exactly, and
    their parameters plus the uncovered ones are the graph's own total.
    """
    groups: defaultdict[Hashable, dict[str, Site]] = defaultdict(dict)
    for address, site in zip(addresses(graph.sites), graph.sites, strict=True):
        groups[_group(site)][address] = site
    rows = [
        _row(pattern, [members[address] for address in pattern], rank)
        for members in groups.values()
        for pattern in collapse(members)
    ]
    by_tower = _gathered(rows, lambda row: row.tower)
    by_block = _gathered(
        [row for members in by_tower.values() for row in members], lambda row: (row.tower, row.block)
    )
    return Summary(
        rank=rank,
        rows=tuple(row for members in by_block.values() for row in members),
        towers={tower: _add(row.total for row in members) for tower, members in by_tower.items()},
        blocks={block: _add(row.total for row in members) for block, members in by_block.items()},
        total=_add(row.total for row in rows),
        uncovered=tuple(_uncovered_rows(graph.uncovered)),
        uncovered_parameters=graph.uncovered_parameters,
        total_parameters=graph.total_parameters,
    )


def _group(site: Site) -> Hashable:
    """Return what the sites of one row have in common besides the shape of their paths."""
    return (
        site.tower, site.block, site.part, site.kind, site.in_features, site.out_features, site.experts,
        site.adaptable, site.tied_to is None,
    )  # fmt: skip


def _row(pattern: Pattern, sites: list[Site], rank: int) -> Row:
    first = sites[0]
    adaptable = len(sites) if first.adaptable else 0
    return Row(
        tower=first.tower,
        block=first.block,
        part=first.part,
        kind=first.kind,
        pattern=pattern,
        in_features=first.in_features,
        out_features=first.out_features,
        experts=first.experts,
        adaptable=first.adaptable,
        tied_to=tuple(collapse({site.tied_to: None for site in sites if site.tied_to})),
        total=Total(
            sites=len(sites),
            parameters=sum(site.parameters for site in sites),
            adaptable_sites=adaptable,
            lora_parameters=adaptable * first.lora_parameters(rank),
        ),
    )


def _uncovered_rows(items: Iterable[Uncovered]) -> Iterator[UncoveredRow]:
    shapes: defaultdict[tuple[int, ...], dict[str, int]] = defaultdict(dict)
    for item in items:
        shapes[item.shape][item.parameter] = item.parameters
    for shape, sizes in shapes.items():
        for pattern in collapse(sizes):
            yield UncoveredRow(pattern=pattern, shape=shape, parameters=sum(sizes[name] for name in pattern))


def _gathered(rows: Iterable[Row], key: Callable[[Row], _Key]) -> dict[_Key, list[Row]]:
    gathered: defaultdict[_Key, list[Row]] = defaultdict(list)
    for row in rows:
        gathered[key(row)].append(row)
    return gathered


def _add(totals: Iterable[Total]) -> Total:
    totals = list(totals)
    return Total(
        sites=sum(total.sites for total in totals),
        parameters=sum(total.parameters for total in totals),
        adaptable_sites=sum(total.adaptable_sites for total in totals),
        lora_parameters=sum(total.lora_parameters for total in totals),
    )
