"""Resolve a target specification on a model: exact sites, in the order of the model."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import lcm
from typing import TYPE_CHECKING

from lora_probe.errors import PeftRefusal, UnmatchedTarget
from lora_probe.graph import Adaptable, Kind, ModuleGraph
from lora_probe.peft_rules import ALL_LINEAR, Inventory, LoraSettings, predict
from lora_probe.peft_rules.experts import renamed_to
from lora_probe.peft_rules.tables import RENAMED_EXPERTS, renamed_experts
from lora_probe.targets.grammar import parse_targets, role_of
from lora_probe.targets.near import near_targets
from lora_probe.targets.presets import PRESETS
from lora_probe.targets.spec import AllLinear, Expression, Name, Names, Role, TargetSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lora_probe.graph import Site
    from lora_probe.targets.spec import Layers, Term

__all__ = ["any_rank", "resolve"]

_WIDE_KINDS = frozenset({Kind.LINEAR, Kind.CONV1D, Kind.PACKED_ATTENTION, Kind.EXPERT_PARAMETER})
"""What a tower selects: the matrices that all-linear stands for, and the experts that it misses."""
_MATRIX_BLOCKS = frozenset(
    {"attention", "cross_attention", "mlp", "experts", "shared_experts", "router", "ssm", "recurrent"}
)
"""Blocks that are matrices before all; their convolutions are selected only by their part."""


def resolve(graph: ModuleGraph | Inventory, spec: TargetSpec | str | Sequence[str]) -> tuple[Site, ...]:
    """Return the sites that `spec` selects, each once, in the order of the model.

    - A role selects what plays it: `attention`, `mlp.down`, `vision:attention.q`. A tower alone
      (``vision:``) selects its matrices and experts, without routers and the output embedding. A block's
      convolutions are selected by their part only (`ssm.conv`), unless the block is made of them.
    - Names joined by commas, expressions (``re:``) and `all-linear` select what PEFT adapts for them, with
      all that it rewrites and leaves out; ``name:`` takes a name as it stands, of a module or of a
      parameter.
    - Layers are counted within each tower, over all of its layers.

    Raises:
        TargetSyntaxError: `spec` is a text that is no specification.
        UnmatchedTarget: a part of it matches nothing, removes nothing, or nothing is left; names near misses.
        PeftRefusal: PEFT would raise for names or an expression in it.

    """
    if not isinstance(spec, TargetSpec):
        spec = parse_targets(spec)
    inventory = Inventory(graph) if isinstance(graph, ModuleGraph) else graph
    chosen = _Resolver(inventory, spec.text).chosen(spec)
    return tuple(site for site in inventory.graph.sites if site.parameter in chosen)


def any_rank(inventory: Inventory) -> int:
    """Return a rank that every convolution of the model accepts: which sites match depends on no rank."""
    return lcm(*(site.groups for site in inventory.graph.sites))


@dataclass(frozen=True, slots=True)
class _Resolver:
    """Evaluates terms on one model; sets of sites are sets of their weights' names."""

    inventory: Inventory
    text: str

    def chosen(self, spec: TargetSpec) -> set[str]:
        found: set[str] = set()
        for term in spec.terms:
            selected = self._term(term)
            if not term.removes:
                found |= selected
                continue
            if not found & selected:
                raise self._unmatched(term, "removes nothing of what stands before it")
            found -= selected
        if not found:
            raise self._unmatched(spec.terms[-1], "leaves nothing")
        return found

    def _term(self, term: Term) -> set[str]:
        selector = term.selector
        if isinstance(selector, TargetSpec):
            found = self.chosen(selector)
        elif isinstance(selector, (Role, Name)):
            sites = list(self._named(selector) if isinstance(selector, Name) else self._playing(selector))
            found = {site.parameter for site in sites if site.adaptable}
            if sites and not found:
                raise self._unmatched(term, f"is {len(sites)} weights, none of which PEFT can adapt")
        else:
            if isinstance(selector, Names):
                self._check_names(selector, term)
            found = self._as_peft(selector)
        if not found:
            raise self._unmatched(
                term, "matches nothing", near_targets(str(selector), self.inventory.graph.sites)
            )
        if term.layers:
            found = self._in_layers(found, term.layers)
            if not found:
                raise self._unmatched(term, "matches nothing in these layers")
        return found

    def _playing(self, role: Role) -> Iterator[Site]:
        graph = self.inventory.graph
        for site in graph.sites:
            if role.tower not in {None, site.tower} or role.block not in {None, site.block}:
                continue
            if role.part is not None:
                fits = role.part == site.part
            elif role.block is not None:
                fits = site.kind is not Kind.CONV or site.block not in _MATRIX_BLOCKS
            else:
                fits = (
                    site.kind in _WIDE_KINDS
                    and site.block != "router"
                    and site.path != graph.output_embedding
                )
            if fits:
                yield site

    def _named(self, name: Name) -> Iterator[Site]:
        ending = f".{name.text}"
        for site in self.inventory.graph.sites:
            full = (site.parameter, site.path) if site.adaptable is Adaptable.MODULE else (site.parameter,)
            if any(each == name.text or each.endswith(ending) for each in full):
                yield site

    def _as_peft(self, selector: Names | Expression | AllLinear) -> set[str]:
        target: tuple[str, ...] | str = ALL_LINEAR
        if isinstance(selector, Names):
            target = selector.names
        elif isinstance(selector, Expression):
            target = selector.pattern
        settings = LoraSettings(rank=any_rank(self.inventory), target_modules=target)
        try:
            return {site.parameter for site in predict(self.inventory, settings).sites}
        except PeftRefusal as refusal:
            if refusal.rule == "nothing-matched":
                return set()
            raise

    def _check_names(self, selector: Names, term: Term) -> None:
        """Refuse a list with a name that matches nothing, of which PEFT says nothing."""
        family = renamed_experts(self.inventory.graph.model_type)
        for name in selector.names:
            renamed = renamed_to(name, RENAMED_EXPERTS[family]) if family else None
            names, wanted = self.inventory.paths, name
            if renamed:
                names, wanted = self.inventory.parameter_names, renamed[1]
            if not names.ending_with((wanted,)):
                problem = "matches nothing"
                if role_of(name) or (len(selector.names) > 1 and name in PRESETS):
                    problem = "is a role, and a list with commas holds names: join roles with +"
                raise UnmatchedTarget(
                    target=name,
                    problem=problem,
                    text=self.text,
                    position=max(self.text.find(name, term.position), 0),
                    near=near_targets(name, self.inventory.graph.sites),
                )

    def _in_layers(self, found: set[str], layers: Layers) -> set[str]:
        counts: defaultdict[str, int] = defaultdict(int)
        for site in self.inventory.graph.sites:
            if site.layer is not None:
                counts[site.tower] = max(counts[site.tower], site.layer + 1)
        return {
            site.parameter
            for site in self.inventory.graph.sites
            if site.parameter in found
            and site.layer is not None
            and layers.hold(site.layer, count=counts[site.tower])
        }

    def _unmatched(self, term: Term, problem: str, near: Sequence[str] = ()) -> UnmatchedTarget:
        return UnmatchedTarget(
            target=str(term), problem=problem, text=self.text, position=term.position, near=near
        )
