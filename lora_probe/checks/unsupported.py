"""Modules that the targets name and PEFT has no LoRA layer for, by what lies inside them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_probe.graph import Adaptable
from lora_probe.peft_rules.tables import is_refused_in_mamba

if TYPE_CHECKING:
    from lora_probe.checks.case import Case
    from lora_probe.graph import Site

__all__ = ["Refused", "refused_modules"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """All modules of one class that the targets name and PEFT cannot adapt."""

    class_name: str
    paths: tuple[str, ...]
    inner: tuple[Site, ...]
    """The adaptable sites inside the first of them."""

    @property
    def is_wrapper(self) -> bool:
        """Whether the module only wraps one layer that PEFT could adapt."""
        return len(self.inner) == 1 and self.holds_modules

    @property
    def holds_modules(self) -> bool:
        """Whether layers that PEFT could adapt lie inside."""
        return any(site.adaptable is Adaptable.MODULE for site in self.inner)


def refused_modules(case: Case) -> list[Refused]:
    """Return the modules for which PEFT would raise, if it came to them."""
    if case.settings.is_all_linear:
        return []
    by_module, classes, model_type = case.inventory.by_module, case.inventory.classes, case.graph.model_type
    found: defaultdict[str, list[str]] = defaultdict(list)
    paths = case.written if not case.renamed else [path for path in case.written if not _renamed(case, path)]
    for path in paths:
        if path not in by_module and path in classes and not is_refused_in_mamba(path, model_type):
            found[classes[path]].append(path)
    return [
        Refused(class_name=name, paths=tuple(paths), inner=_inside(case, paths[0]))
        for name, paths in found.items()
    ]


def _renamed(case: Case, path: str) -> bool:
    """Tell whether `path` was matched only by names that PEFT turns into parameters."""
    return not any(
        path == name or path.endswith(f".{name}") for name in case.names if name not in case.renamed
    )


def _inside(case: Case, path: str) -> tuple[Site, ...]:
    start = f"{path}."
    return tuple(
        site for site in case.graph.sites if site.adaptable is not None and site.parameter.startswith(start)
    )
