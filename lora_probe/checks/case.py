"""What the rules look at: one target set on one model, and all that PEFT does with it, worked out once."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from lora_probe.checks.audit import audit
from lora_probe.errors import PeftRefusal
from lora_probe.graph import Adaptable
from lora_probe.peft_rules.experts import renamed_to
from lora_probe.peft_rules.matching import excluded_paths, matched_paths
from lora_probe.peft_rules.tables import RENAMED_EXPERTS, renamed_experts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lora_probe.checks.adapter import SavedAdapter
    from lora_probe.checks.audit import Audit
    from lora_probe.checks.request import Request
    from lora_probe.checks.serving import Engine
    from lora_probe.graph import ModuleGraph, Site
    from lora_probe.peft_rules import Adapter, Inventory, LoraSettings, Prediction

__all__ = ["Case"]

_LITERAL_NUMBER = re.compile(r"(?<![A-Za-z_0-9\\{,])\d")
"""A digit in a regular expression that is neither part of a name such as fc1 nor of a repetition."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One request on one model: what was written, and what becomes of it."""

    inventory: Inventory
    request: Request
    prediction: Prediction | None
    """None where PEFT refuses."""
    refusal: PeftRefusal | None
    trainable_parameters: int
    largest_share: float
    """The share of the model from which on an adapter is called large."""
    adapter: SavedAdapter | None = None
    """An adapter on disk to compare with."""
    engines: tuple[Engine, ...] = ()

    @property
    def graph(self) -> ModuleGraph:
        """The model."""
        return self.inventory.graph

    @property
    def settings(self) -> LoraSettings:
        """What was written."""
        return self.request.settings

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """What PEFT will make; nothing where it refuses."""
        return self.prediction.adapters if self.prediction else ()

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """The sites that PEFT will adapt, each once."""
        return self.prediction.sites if self.prediction else ()

    @cached_property
    def adapted(self) -> frozenset[str]:
        """Full names of the weights that PEFT will adapt."""
        return frozenset(site.parameter for site in self.sites)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The entries of `target_modules` where it is a list, as they were written; empty for a regex."""
        target = self.settings.target_modules
        return tuple(dict.fromkeys(target)) if isinstance(target, tuple) else ()

    @cached_property
    def written(self) -> tuple[str, ...]:
        """Paths of the modules that `target_modules` names, before PEFT rewrites expert names."""
        if self.settings.is_all_linear:
            head = self.graph.output_embedding
            found = [path for path in self.inventory.linear if path != head]
        else:
            found = self.literally(self.settings)
        return tuple(path for path in found if path not in self.left_out)

    @cached_property
    def left_out(self) -> frozenset[str]:
        """Paths that `exclude_modules` and `modules_to_save` keep from being adapted."""
        with suppress(PeftRefusal):  # an expression that does not compile, which is a finding of its own
            return excluded_paths(self.settings, self.inventory.paths)
        return frozenset()

    def literally(self, settings: LoraSettings) -> list[str]:
        """Return the module paths that `target_modules` of `settings` names; none where it is broken."""
        with suppress(PeftRefusal):
            return matched_paths(settings, self.inventory.paths)
        return []

    @cached_property
    def written_sites(self) -> tuple[Site, ...]:
        """The sites at `written`."""
        by_module = self.inventory.by_module
        return tuple(by_module[path] for path in self.written if path in by_module)

    @property
    def targeted(self) -> tuple[str, ...]:
        """Paths of the modules that get an adapter, or that would if PEFT did not refuse."""
        if self.prediction is not None:
            return tuple(adapter.module for adapter in self.prediction.adapters)
        return tuple(path for path in self.written if path in self.inventory.by_module)

    @property
    def chooses_layers(self) -> bool:
        """Whether the names or the expression tell layers apart by their numbers."""
        target = self.settings.target_modules
        if isinstance(target, str):
            return _LITERAL_NUMBER.search(target) is not None
        return any(part.isdigit() for name in self.names for part in name.split("."))

    @cached_property
    def bypassed(self) -> tuple[frozenset[str], frozenset[str]]:
        """Paths of the modules that are never called, and of those that are not always."""
        never, not_always = [], []
        for module in self.graph.modules:
            start = f"{module.path}." if module.path else ""
            never += [f"{start}{name}" for name in module.bypassed]
            not_always += [f"{start}{name}" for name in module.partly_bypassed]
        return frozenset(never), frozenset(not_always)

    @cached_property
    def embeddings(self) -> frozenset[str]:
        """Paths of the input embedding and of what is tied to it."""
        embedding = self.graph.input_embedding
        return frozenset((*self.inventory.tied_to_embedding, *([embedding] if embedding else [])))

    @cached_property
    def audit(self) -> Audit | None:
        """How the adapter on disk fits the model; None where none is given."""
        return None if self.adapter is None else audit(self.adapter, self.inventory)

    @cached_property
    def renamed(self) -> Mapping[str, str]:
        """The written names that PEFT turns into expert parameters, with the parameter's name."""
        family = renamed_experts(self.graph.model_type)
        if family is None:
            return {}
        found = {name: renamed_to(name, RENAMED_EXPERTS[family]) for name in self.names}
        return {name: new[1] for name, new in found.items() if new is not None}

    @cached_property
    def leaves(self) -> tuple[str, ...]:
        """Last segments of the names by which PEFT can adapt something here, each once, in order."""
        return tuple(dict.fromkeys(site.name for site in self.graph.sites if site.adaptable is not None))

    def matches(self, name: str) -> list[str]:
        """Return the module paths that the entry `name` of a list matches."""
        return self.inventory.paths.ending_with((name,))

    def called(self, *parts: str, block: str) -> tuple[str, ...]:
        """Return the names of the modules that play one of `parts`, or any part, of `block` in this model."""
        return tuple(
            dict.fromkeys(
                site.name
                for site in self.graph.sites
                if site.block == block
                and (site.part in parts or not parts)
                and site.adaptable is Adaptable.MODULE
            )
        )
