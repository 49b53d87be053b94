"""A serving engine: its name, and what it does not take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_probe.checks.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from lora_probe.checks.case import Case
    from lora_probe.checks.records import Severity
    from lora_probe.checks.rule import Hit

__all__ = ["Engine", "Limit"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """One thing that an engine refuses, ignores or scales wrongly."""

    name: str
    """What comes after the engine's name in the rule's."""
    severity: Severity
    happens: str
    why: str
    fix: str
    source: str
    """Where in the engine's code it is decided, or the issue that tells of it."""
    when: Callable[[Case], Iterable[Hit]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """One engine with all its limits."""

    name: str
    title: str
    limits: tuple[Limit, ...]

    def rules(self) -> Iterator[Rule]:
        """Yield the limits as rules that apply where the engine is asked for."""
        for limit in self.limits:
            yield Rule(
                name=f"{self.name.replace('.', '-')}-{limit.name}",
                severity=limit.severity,
                happens=f"{self.title}: {limit.happens}",
                why=limit.why,
                fix=limit.fix,
                sources=(limit.source,),
                examine=self._only_here(limit.when),
            )

    def _only_here(self, when: Callable[[Case], Iterable[Hit]]) -> Callable[[Case], Iterable[Hit]]:
        return lambda case: when(case) if self in case.engines else ()
