"""A module graph arranged for matching: names found by their end, weights by their names."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from lora_probe.graph import Adaptable, Kind
from lora_probe.peft_rules.tables import is_refused_in_mamba

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from lora_probe.graph import ModuleGraph, Site

__all__ = ["Inventory", "Names", "Parameter", "ends", "paths_around"]


class Names:
    """Dotted names in the order of the model, found by themselves or by what they end with."""

    def __init__(self, names: Iterable[str]) -> None:
        self.all = tuple(names)
        self._by_leaf: defaultdict[str, list[int]] = defaultdict(list)
        for index, name in enumerate(self.all):
            self._by_leaf[name.rpartition(".")[2]].append(index)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names in order."""
        return iter(self.all)

    def ending_with(self, suffixes: Collection[str]) -> list[str]:
        """Return, in order, the names that equal one of `suffixes` or end with a dot and one of them.

        The cost is that of the names whose last segment is that of a suffix, not of names x suffixes.
        """
        wanted = frozenset(suffixes)
        found: list[int] = []
        for leaf in {suffix.rpartition(".")[2] for suffix in wanted}:
            same = self._by_leaf.get(leaf, ())
            if leaf in wanted:
                found += same
            else:
                found += (index for index in same if any(end in wanted for end in ends(self.all[index])))
        return [self.all[index] for index in sorted(found)]


def ends(name: str) -> Iterator[str]:
    """Yield `name` and what follows each of its dots, the longest first."""
    yield name
    position = name.find(".")
    while position >= 0:
        yield name[position + 1 :]
        position = name.find(".", position + 1)


def paths_around(path: str) -> Iterator[str]:
    """Yield the paths of the modules that hold the one at `path`, the innermost first, without the root."""
    parent = path.rpartition(".")[0]
    while parent:
        yield parent
        parent = parent.rpartition(".")[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One parameter of the model, as PEFT's `target_parameters` sees it."""

    name: str
    module: str
    """Path of the module that holds it; empty for the root."""
    shape: tuple[int, ...]
    transposed: bool = False
    """Whether a 3-D parameter is declared to be stored as (experts, in, out)."""
    tied_to: str | None = None
    """Full name of the parameter that this one is, where that one comes first."""
    site: Site | None = None


class Inventory:
    """What PEFT matches names against in one model, worked out once and used for every target set."""

    def __init__(self, graph: ModuleGraph) -> None:
        self.graph = graph
        paths = (module.path for module in graph.modules) if graph.modules else _paths_of_sites(graph)
        self.paths = Names(path for path in paths if path)
        self.classes: Mapping[str, str] = {module.path: module.class_name for module in graph.modules}
        self.by_module: Mapping[str, Site] = {
            site.path: site for site in graph.sites if site.adaptable is Adaptable.MODULE
        }

    @cached_property
    def linear(self) -> tuple[str, ...]:
        """Paths of every nn.Linear and Conv1D, in order, with those that PEFT refuses in Mamba models."""
        found = {
            site.path
            for site in self.graph.sites
            if site.kind in _LINEAR_KINDS
            and (site.adaptable is Adaptable.MODULE or is_refused_in_mamba(site.path, self.graph.model_type))
        }
        return tuple(path for path in self.paths if path in found)

    @cached_property
    def parameters(self) -> Mapping[str, Parameter]:
        """Parameters by full name: those of sites in order, then uncovered ones, then biases of sites."""
        transposed = {site.path for site in self.graph.sites if site.transposed}
        found: dict[str, Parameter] = {}
        for site in self.graph.sites:
            found[site.parameter] = Parameter(
                name=site.parameter,
                module=site.parameter.rpartition(".")[0],
                shape=site.shape or _usual_shape(site),
                transposed=site.path in transposed,
                tied_to=site.tied_to,
                site=site,
            )
        for item in self.graph.uncovered:
            module = item.parameter.rpartition(".")[0]
            found[item.parameter] = Parameter(
                name=item.parameter,
                module=module,
                shape=item.shape,
                transposed=module in transposed,
                tied_to=item.tied_to,
            )
        for site in self.graph.sites:
            if site.bias:
                size = site.bias_parameters or site.out_features  # a tied bias is counted elsewhere
                shape = (site.experts, site.out_features) if site.experts > 1 else (size,)
                holder = site.bias.rpartition(".")[0]
                found.setdefault(site.bias, Parameter(name=site.bias, module=holder, shape=shape))
        return found

    @cached_property
    def parameter_names(self) -> Names:
        """Full names of `parameters`, in the order in which PEFT meets their modules."""
        order = {path: index for index, path in enumerate(self.paths)}
        return Names(sorted(self.parameters, key=lambda name: order.get(self.parameters[name].module, -1)))

    @cached_property
    def biases(self) -> tuple[str, ...]:
        """Full names of the distinct parameters that are called ``bias``."""
        own = (site.bias for site in self.graph.sites if site.bias and site.bias_parameters)
        others = (item.parameter for item in self.graph.uncovered if item.parameters)
        return tuple(name for name in (*own, *others) if name.rpartition(".")[2] == "bias")

    @property
    def tied_to_embedding(self) -> tuple[str, ...]:
        """Paths of the modules that PEFT takes to be tied to the input embedding, sorted."""
        return self.graph.tied_modules or ()

    def parameters_under(self, path: str) -> dict[str, Parameter]:
        """Return the parameters of the module at `path` and below, by their names within it."""
        start = f"{path}."
        return {
            name.removeprefix(start): parameter
            for name, parameter in self.parameters.items()
            if name.startswith(start)
        }


_LINEAR_KINDS = frozenset({Kind.LINEAR, Kind.CONV1D})


def _paths_of_sites(graph: ModuleGraph) -> list[str]:
    return list(dict.fromkeys(site.path for site in graph.sites))


def _usual_shape(site: Site) -> tuple[int, ...]:
    """Return the stored shape that `site` has by its kind, for graphs that do not record it."""
    if site.kind in {Kind.CONV1D, Kind.EMBEDDING}:
        return (site.in_features, site.out_features)
    if site.kind is Kind.EXPERT_PARAMETER:
        inner = (
            (site.in_features, site.out_features)
            if site.transposed
            else (site.out_features, site.in_features)
        )
        return (site.experts, *inner)
    return (site.out_features, site.in_features)
